"""One interactive page of a landscape, which needs nothing from outside."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from perturbrl.landscape.pictures.scene import Scene, View
from perturbrl.report import style
from perturbrl.report.html import render, text
from perturbrl.report.landscape.relief import BASE, FALL, Relief
from perturbrl.report.landscape.surface import smooth
from perturbrl.report.landscape.theme import DARK, LIGHT, THEMES, Theme

GRID = 150
"""Points of the surface along each side."""


def page(scene: Scene, still: bytes, drawing: str) -> str:
    """Return the HTML.

    Parameters
    ----------
    scene
        What is shown; its last view comes first.
    still
        A PNG for browsers without WebGL.
    drawing
        The network as SVG on a light ground, or an empty text.
    """
    return render(
        "landscape/page.html",
        scene=scene,
        first=scene.views[-1],
        light=LIGHT,
        dark=DARK,
        variables=lambda theme: Markup(" ".join(f"{name}: {value};" for name, value in _variables(theme).items())),
        color=lambda group: _group_variable(scene, group),
        still=f"data:image/png;base64,{base64.b64encode(still).decode()}",
        drawing=Markup(_inlined(drawing)) if drawing else "",
        data=Markup(_json(_data(scene))),
        script=Markup(text("landscape/scene.js")),
    )


def _variables(theme: Theme) -> dict[str, str]:
    names = {"ground": theme.ground, "ink": theme.ink, "muted": theme.muted, "line": theme.line, "halo": theme.halo}
    groups = {f"g{k}": color for k, color in enumerate(theme.groups)}
    signs = {f"sign{k}": color for k, color in enumerate(theme.signs)}
    return {f"--{name}": value for name, value in {**names, **groups, **signs}.items()}


def _group_variable(scene: Scene, group: str) -> str:
    if group not in scene.groups:
        return "var(--muted)"
    return f"var(--g{scene.groups.index(group) % len(LIGHT.groups)})"


def _inlined(svg: str) -> str:
    colors = {value: name for name, value in _variables(LIGHT).items() if name != "--halo"}
    return style.inline(svg, "network", colors)


def _json(content: Any) -> str:
    # a script element ends at the first "</", whatever a name holds
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _data(scene: Scene) -> dict[str, Any]:
    looks = {
        name: {key: value for key, value in vars(theme).items() if key != "name"} for name, theme in THEMES.items()
    }
    return {
        "groups": scene.groups,
        "themes": looks,
        "base": BASE,
        "first": scene.views[-1].key,
        "views": [_view(view) for view in scene.views],
    }


def _view(view: View) -> dict[str, Any]:
    relief = Relief(view, fine=GRID)
    return {
        "key": view.key,
        "title": view.title,
        "caption": view.caption,
        "shape": relief.level.shape,
        "level": _packed(relief.level * 65535),
        "length": relief.length,
        "height": relief.height,
        "fall": FALL if view.downhill else 0,
        "top": relief.top,
        "marks": [
            {
                "name": mark.name,
                "group": mark.group,
                "facts": dict(mark.facts),
                "at": [round(float(c), 4) for c in relief.place(mark.point, sloped=False)],
            }
            for mark in view.marks
        ],
        "paths": [
            {
                "group": path.group,
                "points": _packed((relief.place(smooth(path.points, 2), sloped=False) + 0.5) * 32767.5),
            }
            for path in view.paths
        ],
    }


def _packed(values: NDArray[np.float64]) -> str:
    """Return whole numbers of 16 bits as base64, the last axis fastest."""
    return base64.b64encode(values.round().clip(0, 65535).astype("<u2").tobytes()).decode()
