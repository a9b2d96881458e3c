"""The cells that a job trains on, read once, and what its run directory says of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbrl import registry, status
from perturbrl.config import bind
from perturbrl.data.cache import cached_table, code_digest, stamps
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.schema import CellTable, RawCells
from perturbrl.data.table import load_table
from perturbrl.envs.factory import Table
from perturbrl.runner.job import DATA_GROUPS, FILE_KEYS, Job
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.describe import DescriptionConfig
from perturbrl.screens.schema import PerturbationTable
from perturbrl.screens.split_config import ScreenSplitConfig, bind_split

CELL_GROUPS = ("source", "data", "encoder", "split")


@dataclass(frozen=True)
class Facts:
    """What a run says of its cells. ``told`` are sentences for whoever starts it."""

    source: str
    checksum: str
    n_cells: int
    n_features: int
    leaks: tuple[str, ...]
    told: tuple[str, ...]


def facts(table: Table) -> Facts:
    """Return what is known of the cells of a run."""
    if isinstance(table, PerturbationTable):
        screen = table.screen
        told = (*screen.notes, *table.split.notes, *table.leaks)
        n_cells, n_features = screen.x.shape
        return Facts(screen.source, screen.checksum, n_cells, n_features, table.leaks, told)
    told = tuple(f"data.preset=released: {leak}" for leak in table.leaks)
    return Facts(table.source, table.checksum, len(table.x), table.n_features, table.leaks, told)


def load_cells(job: Job) -> Table:
    """Return the cells that a job trains on; jobs that share data share one table in memory."""
    groups = json.dumps({group: job.raw[group] for group in DATA_GROUPS if group in job.raw}, sort_keys=True)
    seen = [stamp for file in _files(job.raw) for stamp in stamps(file)]
    return _table(groups, tuple(seen))


def _files(raw: dict[str, Any]) -> list[Path]:
    """Return the files that the cells of a run depend on."""
    found = [(raw.get(group) or {}).get(key) for group, key in FILE_KEYS]
    return [Path(file) for file in found if file]


@functools.lru_cache(maxsize=8)
def _table(groups: str, seen: tuple[str, ...]) -> Table:
    raw = json.loads(groups)
    source = registry.sources.bind(raw["source"])

    def read() -> RawCells:
        with status.step(f"reading {raw['source'].get('path') or 'source=' + source.name}"):
            cells: RawCells = registry.sources[source.name].build(source)
        return cells

    return prepare(raw, read)


def prepare(raw: dict[str, Any], read: Callable[[], RawCells]) -> Table:
    """Return the table that the groups ``DATA_GROUPS`` of a config make of the cells that ``read`` returns.

    ``read`` is not called where a table of cells lies ready on disk.

    Raises
    ------
    UserError
        As ``read``, ``load_table`` or ``load_perturbations``.
    """
    source = registry.sources.bind(raw["source"])
    data, split = bind(DataConfig, raw["data"], "data"), bind_split(raw["split"])
    if isinstance(split, ScreenSplitConfig):
        from perturbrl.screens.table import load_perturbations

        conditions = bind(ConditionsConfig, raw["conditions"], "conditions")
        description = bind(DescriptionConfig, raw["description"], "description")
        return load_perturbations(read(), data, conditions, split, description)
    encoder = registry.encoders.bind(raw["encoder"])

    def build() -> CellTable:
        return load_table(read(), data, encoder, split)

    file = raw["source"].get("path")
    code = code_digest(registry.sources[source.name].build, registry.encoders[encoder.name].build)
    # conditions and descriptions say nothing of a table of cells
    groups = json.dumps({group: raw[group] for group in CELL_GROUPS}, sort_keys=True)
    return cached_table(groups, Path(file) if file else None, code, build)
