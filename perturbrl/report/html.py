"""What the pages have in common: how a template becomes HTML, the colours on a dark ground, and figures in it."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape

from perturbrl.report.style import Picture

# the palette on a dark ground: the same hues, lighter
DARK = ("#56a8e0", "#f0b33a", "#2fc495", "#e39cc2", "#f0824a", "#8fd0f5")


def render(template: str, **values: Any) -> str:
    """Return a page; ``template`` is a file below this folder, and may use the macros of ``shared.html``."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(text),
    )
    environment.globals["svg"] = svg
    return environment.get_template(template).render(**values)


def text(name: str) -> str:
    """Return the text of a file below this folder."""
    return files("perturbrl.report").joinpath(name).read_text(encoding="utf-8")


def svg(picture: Picture) -> Markup:
    """Return a figure for a page, with its title and caption as its label."""
    label = escape(f"{picture.title}. {picture.caption}")
    return Markup(picture.inline.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))
