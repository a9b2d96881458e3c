"""Pictures for the page of a plan: the landscape as it is, and while the best set of perturbations acts."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from perturbrl import status
from perturbrl.errors import UserError
from perturbrl.landscape.network import Network
from perturbrl.landscape.pictures.assemble import held, network_scene
from perturbrl.landscape.plan.result import Perturbation, Plan
from perturbrl.report import style
from perturbrl.report.fate_plan import in_words
from perturbrl.report.fate_plan_page import Landscape, outcome_colors
from perturbrl.report.landscape import surface
from perturbrl.report.landscape.theme import DARK, LIGHT, Theme

if TYPE_CHECKING:
    from perturbrl.landscape.pictures.scene import Scene

DPI = 75
NOISE = 0.0  # of the Hill equations, which are not used here


def landscapes(network: Network, plan: Plan, n_cells: int, seed: int) -> tuple[Landscape, ...]:
    """Return the landscape of ``network`` and that under the best set of ``plan``, of ``n_cells`` simulated cells each.

    A landscape that cannot be drawn (too large a network) is left out.
    """
    sets = [(), *(candidate.perturbation for candidate in plan.candidates[:1])] if n_cells else []
    drawn = []
    for perturbation in sets:
        title = f"While it acts: {_lower(in_words(perturbation))}" if perturbation else "Without a perturbation"
        with status.step(f"drawing the landscape: {_lower(title)}"):
            try:
                scene = _scene(network, perturbation, title, n_cells, seed)
            except UserError:
                continue
            scene = replace(scene, groups=_in_colors_of(plan, scene.groups))
            drawn.append(_drawn(scene, title, bool(perturbation)))
    return tuple(drawn)


def _in_colors_of(plan: Plan, groups: Sequence[str]) -> tuple[str, ...]:
    """Return ``groups`` in such an order that each has the colour of its outcome in the bars of the page."""
    rest = [*groups]
    first = []
    for outcome in outcome_colors(plan):
        alike = next((group for group in rest if group.partition(", ")[0] == outcome), outcome)
        first.append(alike)
        rest = [group for group in rest if group != alike]
    return (*first, *rest)


def _lower(words: str) -> str:
    return words[0].lower() + words[1:]


def _scene(network: Network, perturbation: Perturbation, title: str, n_cells: int, seed: int) -> Scene:
    if perturbation:
        network = held(network, ",".join(f"{gene}={int(on)}" for gene, on in perturbation))
    return network_scene(network, title, dynamics="boolean", noise=NOISE, seed=seed, n_cells=n_cells)


def _drawn(scene: Scene, title: str, perturbed: bool) -> Landscape:
    # The page has title and caption as text.
    bare = replace(scene, title="", views=(replace(scene.views[-1], title="", caption=""),))
    light, dark = (_png(bare, theme) for theme in (LIGHT, DARK))
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    markup = f'<picture>{source}<img src="{light}" alt="{title}"></picture>'
    return Landscape(title, markup, "" if perturbed else scene.views[-1].caption)


def _png(scene: Scene, theme: Theme) -> str:
    import matplotlib as mpl

    with mpl.rc_context(style.RC):
        out = io.BytesIO()
        surface.draw(scene, scene.views[-1], theme).savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
