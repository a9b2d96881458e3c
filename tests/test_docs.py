"""Pages are short, their links lead somewhere, and what they show is what the files and the code have."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from perturbrl import __version__

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.glob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / folder / "README.md" for folder in ("data", "outputs", "benchmarks")),
    ]
)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
PLUGIN_KINDS = ("agent", "source", "encoder", "env", "metric", "split", "baseline")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ids(value: Any) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


@pytest.mark.parametrize(
    ("page", "most"),
    [(ROOT / "README.md", 150), (DOCS / "results.md", 300), (DOCS / "results_counterfactual.md", 300)],
    ids=ids,
)
def test_a_page_can_be_read_in_one_sitting(page: Path, most: int) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= most


def test_the_changelog_names_this_version() -> None:
    assert re.search(rf"^## .*\b{re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of a page, as code hosts and the site make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)):
        if ":" in target:
            continue
        place = page.parent / target if target else page
        assert place.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in anchors(place), f"{target}#{anchor}: no such heading"


def test_every_page_is_in_the_site() -> None:
    index = (DOCS / "index.md").read_text()
    listed = set(re.findall(r"^([\w/]+)$", index, re.MULTILINE))
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= listed


def test_the_page_on_plugins_shows_the_examples() -> None:
    make_excerpts = script("make_excerpts")
    page = (DOCS / "extend.md").read_text(encoding="utf-8")
    assert page == make_excerpts.updated(page), "run: python docs/make_excerpts.py"
    files = [file for file in (ROOT / "examples" / "plugins").rglob("*") if file.suffix in (".py", ".yaml")]
    assert {file.relative_to(ROOT / "examples" / "plugins").parts[0] for file in files} >= set(PLUGIN_KINDS)
    for file in files:
        assert file.read_text(encoding="utf-8").rstrip() in page, file.name


@pytest.mark.parametrize("page", [DOCS / "extend.md", ROOT / "README.md"], ids=ids)
def test_every_plugin_that_a_page_shows_is_a_complete_file(page: Path) -> None:
    """A block that registers something, or defaults for it, stands in a file of the examples word by word."""
    examples = [
        file.read_text() for kind in ("py", "yaml") for file in (ROOT / "examples" / "plugins").rglob(f"*.{kind}")
    ]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for language, block in blocks:
        if page.name == "extend.md" or "perturbrl.plugins" in block:
            assert language in ("python", "yaml") and block in examples, block


def test_the_picture_of_the_house_has_every_room() -> None:
    make_house = script("make_house")
    rooms = {room for _, names in make_house.floors() for room in names}
    assert len(rooms) > 12
    for drawing in (make_house.draw(), make_house.PICTURE.read_text(encoding="utf-8")):
        texts = {
            (node.text or "").rstrip("/") for node in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")
        }
        assert rooms <= texts, "run: python docs/make_house.py"


def test_arrows_of_the_house_point_up() -> None:
    make_house = script("make_house")
    rows = {room: k for k, (_, names) in enumerate(make_house.floors()) for room in names}
    edges = make_house.imports(set(rows))
    assert edges["agents", "envs"] > 0
    assert all(rows[target] <= rows[source] for source, target in edges)


def seeds(node: Any, place: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if str(key).endswith("seed") and value is not None and not isinstance(value, dict):
                yield f"{place}{key}"
            yield from seeds(value, f"{place}{key}.")


def test_the_table_of_seeds_is_complete() -> None:
    section = (DOCS / "use.md").read_text().partition("## The seeds")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE))
    found = set()
    for file in (ROOT / "conf").rglob("*.yaml"):
        group = file.relative_to(ROOT / "conf").parts[0]
        if group not in ("experiment", "hydra"):
            place = "" if group == "config.yaml" else f"{group}."
            found |= set(seeds(yaml.safe_load(file.read_text()), place))
    assert listed == found


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=ids)
def test_a_workflow_runs_what_exists(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        if command.startswith("make "):
            done = subprocess.run(f"{command} --dry-run", shell=True, cwd=ROOT, capture_output=True, timeout=60)
            assert done.returncode == 0, command
        else:
            assert command == ".ci/run" or command.startswith(".venv/bin/perturbrl "), command


def test_hooks_are_local() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    assert {hook["id"] for hook in hooks["repos"][0]["hooks"]} == {"ruff-check", "ruff-format", "mypy"}
