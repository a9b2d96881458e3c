"""The source ``landscape``: simulated myeloid cells as a data set, checked and cached.

This module imports no torch until cells are simulated, so that it can be registered at start-up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from perturbrl import paths, registry
from perturbrl.config import choice, fingerprint, require

if TYPE_CHECKING:
    from perturbrl.data.schema import RawCells

VERSION = 1
"""Part of the checksum: raise it when the same settings would give other cells."""
PERTURBATIONS = ("none", "single", "double")
N_REGULATORS = 11


@dataclass(frozen=True)
class LandscapeConfig:
    """What to simulate; the meaning and unit of each key stands in ``conf/source/landscape.yaml``."""

    name: str
    seed: int
    n_cells: int
    n_target_genes: int
    n_peaks: int
    n_proteins: int
    noise: float
    perturbations: str
    overexpression: float
    rna_depth: float
    atac_depth: float
    protein_depth: float
    dropout: float
    n_batches: int
    batch_effect: float


def checksum(config: LandscapeConfig) -> str:
    """Return the sha256 of the settings and of the version of the simulator."""
    return fingerprint({**asdict(config), "version": VERSION})


@registry.sources.register("landscape", LandscapeConfig)
def build(config: LandscapeConfig) -> RawCells:
    """Return the simulated cells, from the cache where they have been simulated before.

    Raises
    ------
    UserError
        A setting is out of its range; the message names it.
    """
    _check(config)
    from perturbrl.landscape import dataset

    return _cached(checksum(config), lambda key: dataset.simulate_cells(config, key))


def fresh_cells(config: LandscapeConfig, n_cells: int, seed: int = 0) -> RawCells:
    """Return ``n_cells`` fresh cells of each condition of a landscape: same genes, depths and batches, other cells.

    Their mean is what a condition's mean would be with many cells, so a prediction can be held against it; ``seed``
    draws the cells.

    Raises
    ------
    UserError
        A setting is out of its range, or ``n_cells`` is not positive.
    """
    _check(config)
    require(n_cells > 0, "n_cells", f"{n_cells} must be positive")
    from perturbrl.landscape import fresh

    asked = fingerprint({"landscape": checksum(config), "n_cells": n_cells, "seed": seed})
    return _cached(asked, lambda key: fresh.simulate_fresh(config, n_cells, seed, key))


def _cached(key: str, simulate: Callable[[str], RawCells]) -> RawCells:
    from perturbrl.landscape import cache

    file = paths.cache_dir() / "landscape" / f"{key}.npz"
    cells = cache.load(file, key)
    if cells is None:
        cells = simulate(key)
        try:
            cache.save(cells, file)
        except OSError as error:
            warnings.warn(f"{file}: the simulated cells cannot be cached ({error.strerror})", stacklevel=2)
    return cells


def _check(config: LandscapeConfig) -> None:
    choice(config.perturbations, PERTURBATIONS, "source.perturbations")
    singles = 1 + 2 * N_REGULATORS
    pairs = 2 * N_REGULATORS * (N_REGULATORS - 1)
    least = {"none": 1, "single": singles, "double": 2 * (singles + pairs)}[config.perturbations]
    floors = {"n_cells": least, "n_target_genes": 1, "n_peaks": 1, "n_proteins": 1, "n_batches": 1}
    for key, floor in floors.items():
        value = getattr(config, key)
        require(value >= floor, f"source.{key}", f"{value} is too small; it must be at least {floor}")
    for key in ("noise", "batch_effect"):
        value = getattr(config, key)
        require(value >= 0, f"source.{key}", f"{value} is negative; it must be 0 or more")
    for key in ("rna_depth", "atac_depth", "protein_depth", "overexpression"):
        value = getattr(config, key)
        require(value > 0, f"source.{key}", f"{value} must be more than 0")
    require(0 <= config.dropout < 1, "source.dropout", f"{config.dropout} must be at least 0 and less than 1")
    few, most = config.n_proteins, config.n_target_genes
    require(few <= most, "source.n_proteins", f"{few} is too many; it must be at most source.n_target_genes={most}")
