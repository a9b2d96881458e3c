"""Settings of the documentation site: ``make docs`` writes it to build/docs; it needs no network, then or later.

Pages outside docs/ (README, CONTRIBUTING, ...) are copied to docs/pages/ first, and links are turned to the copies.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

PAGES = {
    "README.md": "readme",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "data/README.md": "data_folder",
    "outputs/README.md": "outputs_folder",
    "benchmarks/README.md": "benchmarks",
}

project = "perturbrl"
author = "the perturbrl authors"
release = re.findall(r'__version__ = "(.*)"', (ROOT / "perturbrl" / "__init__.py").read_text(encoding="utf-8"))[0]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.apidoc"]
exclude_patterns = ["api/modules.rst", "results/**"]
suppress_warnings = ["ref.python", "autodoc"]  # names that several modules define; signatures made at run time
html_theme = "furo"
html_title = f"perturbrl {release}"
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]

myst_heading_anchors = 3

apidoc_modules = [{"path": "../perturbrl", "destination": "api", "module_first": True}]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False


def linked(text: str, folder: Path) -> str:
    """Turn the links of a page that lies in ``folder`` to pages of the site; links to other files become plain text."""

    def link(match: re.Match[str]) -> str:
        mark, label, target, anchor = match.groups(default="")
        if ":" in target or not target:
            return match[0]
        place = (folder / target).resolve()
        if place.is_relative_to(ROOT) and (page := PAGES.get(str(place.relative_to(ROOT)))):
            return f"{mark}[{label}](/pages/{page}.md{anchor})"
        if place.is_dir() and (place / "README.md").is_file():
            return link(re.fullmatch(LINK, f"[{label}]({target.rstrip('/')}/README.md)"))  # type: ignore[arg-type]
        if place.is_relative_to(DOCS) and place.is_file():
            return f"{mark}[{label}](/{place.relative_to(DOCS)}{anchor})"
        return label

    return re.sub(LINK, link, text)


LINK = r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]*)(#[^)\s]*)?\)"


def turn_links(app: Any, name: str, source: list[str]) -> None:
    """Turn the links of a page before it is parsed."""
    origin = {f"pages/{page}": ROOT / file for file, page in PAGES.items()}.get(name, DOCS / name)
    source[0] = linked(source[0], origin.parent)


def escape_marks(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape bars and stars of formulas, which are markup for Sphinx, outside of ``code``."""
    for k, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        lines[k] = "".join(part if part.startswith("``") else re.sub(r"([|*])", r"\\\1", part) for part in parts)


def setup(app: Any) -> None:
    """Copy the pages from outside docs/ and connect the two functions above."""
    (DOCS / "pages").mkdir(exist_ok=True)
    for file, page in PAGES.items():
        (DOCS / "pages" / f"{page}.md").write_text((ROOT / file).read_text(encoding="utf-8"), encoding="utf-8")
    app.connect("source-read", turn_links)
    app.connect("autodoc-process-docstring", escape_marks, priority=400)  # before napoleon
