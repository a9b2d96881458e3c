"""The verbs under ``perturbrl fate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perturbrl.errors import UserError

if TYPE_CHECKING:
    from perturbrl.landscape.pictures.scene import Scene


def show(
    network: str | None,
    data: Path | None,
    out: Path,
    *,
    hold: str | None,
    dynamics: str,
    noise: float,
    cells: int,
    seed: int,
    group: str | None,
    pseudotime: str | None,
    root: str | None,
    basis: str | None,
    dark: bool,
) -> None:
    """Print the attractors of a network, or the wells of measured cells, and write their pictures to ``out``.

    Raises
    ------
    UserError
        Neither a network nor a file is given, or as ``networks.load``, ``pictures.cells.read_cells`` and ``write``.
    """
    from rich.console import Console

    from perturbrl.report.landscape.build import write
    from perturbrl.report.landscape.console import tables
    from perturbrl.report.landscape.theme import DARK, LIGHT

    if network is None and data is None:
        raise UserError("perturbrl fate show needs a NETWORK (a shipped name or a file) or --data FILE of cells")
    measured = None if data is None else _measured(network, data, group, pseudotime, root, basis, seed)
    scene = measured or _simulated(str(network), hold, dynamics, noise, seed, cells)
    Console().print(tables(scene))
    stem = Path(network or str(data)).name.split(".")[0]
    for file in write(scene, out, stem, DARK if dark else LIGHT):
        print(f"written: {file}")


def _simulated(name: str, hold: str | None, dynamics: str, noise: float, seed: int, n_cells: int) -> Scene:
    from perturbrl.landscape.networks import load
    from perturbrl.landscape.pictures.assemble import held, network_scene

    network = load(name)
    title = Path(name).name.split(".")[0].replace("_", " ")
    if hold is not None:
        network = held(network, hold)
        title += f" with {hold.replace(',', ', ')}"
    return network_scene(network, title, dynamics=dynamics, noise=noise, seed=seed, n_cells=n_cells)


def _measured(
    network: str | None,
    data: Path,
    group: str | None,
    pseudotime: str | None,
    root: str | None,
    basis: str | None,
    seed: int,
) -> Scene:
    from perturbrl.landscape.networks import load
    from perturbrl.landscape.pictures.cells import read_cells
    from perturbrl.landscape.pictures.measured import cells_scene
    from perturbrl.landscape.pictures.scene import wiring

    drawn = None if network is None else wiring(load(network), {})
    cells = read_cells(data, group=group, pseudotime=pseudotime, root=root, basis=basis, seed=seed)
    return cells_scene(cells, drawn)
