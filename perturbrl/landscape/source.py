"""The source ``landscape``: simulated cells as a data set, cached.

torch is imported only when cells are simulated.
"""

from __future__ import annotations

from perturbrl import registry, status
from perturbrl.config import fingerprint, require
from perturbrl.data.cache import cached_cells
from perturbrl.data.schema import RawCells
from perturbrl.landscape.config import LandscapeConfig, checksum
from perturbrl.memory import require_memory

BYTES_PER_ENTRY = 12  # of a cell's feature: signal and counts in single precision, and the sparse counts


@registry.sources.register("landscape", LandscapeConfig)
def build(config: LandscapeConfig) -> RawCells:
    """Return the simulated cells, from the cache where they have been simulated before.

    Raises
    ------
    UserError
        The cells cannot be held in memory.
    """
    key = checksum(config)

    def simulate() -> RawCells:
        from perturbrl.landscape.dataset import simulate_cells

        _require_memory(config, config.n_cells, f"source.n_cells={config.n_cells}")
        return simulate_cells(config, key)

    with status.step(f"simulating {config.n_cells:,} cells"):
        return cached_cells("landscape", key, simulate)


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
    key = fingerprint({"landscape": checksum(config), "n_cells": n_cells, "seed": seed})

    def simulate() -> RawCells:
        from perturbrl.landscape.fresh import simulate_fresh

        many = f"{n_cells} cells of {config.n_conditions} conditions"
        _require_memory(config, config.n_conditions * n_cells, many)
        return simulate_fresh(config, n_cells, seed, key)

    with status.step(f"simulating {n_cells:,} fresh cells of each condition"):
        return cached_cells("landscape", key, simulate)


def _require_memory(config: LandscapeConfig, n_cells: int, where: str) -> None:
    features = config.n_genes + config.n_target_genes + config.n_peaks + config.n_proteins
    sizes = f"{where} with {features} features each"
    require_memory(BYTES_PER_ENTRY * n_cells * features, sizes, "simulate fewer cells or features")
