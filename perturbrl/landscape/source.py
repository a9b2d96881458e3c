"""The source ``landscape``: simulated myeloid cells as a data set, checked and cached.

This module imports no torch until cells are simulated, so that it can be registered at start-up.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from perturbrl import paths, registry, status
from perturbrl.bounds import NonNegativeFloat, Number, OneOf, PositiveFloat, PositiveInt, Seed
from perturbrl.config import fingerprint, require
from perturbrl.memory import require_memory

if TYPE_CHECKING:
    from perturbrl.data.schema import RawCells

VERSION = 1
"""Part of the checksum: raise it when the same settings would give other cells."""
PERTURBATIONS = ("none", "single", "double")
N_REGULATORS = 11
BYTES_PER_ENTRY = 12  # of a cell's feature: signal and counts in single precision, and the sparse counts


@dataclass(frozen=True)
class LandscapeConfig:
    """What to simulate; the meaning and unit of each key stands in ``conf/source/landscape.yaml``."""

    name: str
    seed: Seed
    n_cells: PositiveInt
    n_target_genes: PositiveInt
    n_peaks: PositiveInt
    n_proteins: PositiveInt
    noise: NonNegativeFloat
    perturbations: Annotated[str, OneOf(*PERTURBATIONS)]
    overexpression: PositiveFloat
    rna_depth: PositiveFloat
    atac_depth: PositiveFloat
    protein_depth: PositiveFloat
    dropout: Annotated[float, Number(least=0, below=1)]
    n_batches: PositiveInt
    batch_effect: NonNegativeFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for too few cells for the perturbations, or more proteins than genes."""
        singles = 1 + 2 * N_REGULATORS
        pairs = 2 * N_REGULATORS * (N_REGULATORS - 1)
        least = {"none": 1, "single": singles, "double": 2 * (singles + pairs)}[self.perturbations]
        few = f"must be at least {least} for {where}.perturbations={self.perturbations}, got {self.n_cells}"
        require(self.n_cells >= least, f"{where}.n_cells", few)
        most = f"must be at most {where}.n_target_genes={self.n_target_genes}, got {self.n_proteins}"
        require(self.n_proteins <= self.n_target_genes, f"{where}.n_proteins", most)


def checksum(config: LandscapeConfig) -> str:
    """Return the sha256 of the settings and of the version of the simulator."""
    return fingerprint({**asdict(config), "version": VERSION})


@registry.sources.register("landscape", LandscapeConfig)
def build(config: LandscapeConfig) -> RawCells:
    """Return the simulated cells, from the cache where they have been simulated before.

    Raises
    ------
    UserError
        The cells cannot be held in memory.
    """
    from perturbrl.landscape import dataset

    def simulate(key: str) -> RawCells:
        _require_memory(config, config.n_cells, f"source.n_cells={config.n_cells}")
        return dataset.simulate_cells(config, key)

    with status.step(f"simulating {config.n_cells:,} cells"):
        return _cached(checksum(config), simulate)


def fresh_cells(config: LandscapeConfig, n_cells: int, seed: int = 0) -> RawCells:
    """Return ``n_cells`` fresh cells of each condition of a landscape: same genes, depths and batches, other cells.

    Their mean is what a condition's mean would be with many cells, so a prediction can be held against it; ``seed``
    draws the cells.

    Raises
    ------
    UserError
        ``n_cells`` is not positive.
    """
    require(n_cells > 0, "n_cells", f"{n_cells} must be positive")
    from perturbrl.landscape import fresh

    asked = fingerprint({"landscape": checksum(config), "n_cells": n_cells, "seed": seed})

    def simulate(key: str) -> RawCells:
        most = 1 + 2 * N_REGULATORS * N_REGULATORS  # control, singles and pairs
        conditions = {"none": 1, "single": 1 + 2 * N_REGULATORS}.get(config.perturbations, most)
        _require_memory(config, conditions * n_cells, f"{n_cells} cells of {conditions} conditions")
        return fresh.simulate_fresh(config, n_cells, seed, key)

    with status.step(f"simulating {n_cells:,} fresh cells of each condition"):
        return _cached(asked, simulate)


def _require_memory(config: LandscapeConfig, n_cells: int, where: str) -> None:
    features = N_REGULATORS + config.n_target_genes + config.n_peaks + config.n_proteins
    sizes = f"{where} with {features} features each"
    require_memory(BYTES_PER_ENTRY * n_cells * features, sizes, "simulate fewer cells or features")


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
