"""The cells that a job trains on, read once, and their description in the run directory."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from perturbrl import registry, status
from perturbrl.config import require
from perturbrl.data.cache import cached_table, code_digest, stamps
from perturbrl.data.schema import CellTable, RawCells
from perturbrl.data.table import load_table
from perturbrl.envs.factory import Table
from perturbrl.run_dirs import DATA_GROUPS
from perturbrl.runner.job import FILE_KEYS, Job
from perturbrl.screens.held_out import sentences
from perturbrl.screens.schema import PerturbationTable
from perturbrl.screens.splits.builder import ScreenSplitConfig

RANDOM, PROJECTIONS = "random_gat", "features are random projections of the cells, by an untrained network"
OTHER_NAME = {"conditions.perturbation": "source.perturbation_key"}
CELL_GROUPS = ("source", "data", "encoder", "split")


@dataclass(frozen=True)
class DatasetInfo:
    """What a run records about its cells. ``messages`` are printed when a run starts."""

    source: str
    checksum: str
    n_cells: int
    n_features: int
    leaks: tuple[str, ...]
    messages: tuple[str, ...]

    @staticmethod
    def of(table: Table, encoder: str = "") -> DatasetInfo:
        """Describe a table, whose features ``encoder`` has made."""
        if isinstance(table, PerturbationTable):
            screen = table.screen
            messages = (*screen.notes, *sentences(screen, table.split), *table.split.notes, *table.leaks)
            n_cells, n_features = screen.x.shape
            return DatasetInfo(screen.source, screen.checksum, n_cells, n_features, table.leaks, messages)
        messages = tuple(f"data.preset=released: {leak}" for leak in table.leaks)
        if encoder == RANDOM:
            messages = (f"encoder={RANDOM}: {PROJECTIONS}", *messages)
        return DatasetInfo(table.source, table.checksum, len(table.x), table.n_features, table.leaks, messages)


def renamed(overrides: Iterable[str]) -> list[str]:
    """Return a notice for each override whose key has another name now; the old one works as it did."""
    keys = (word.lstrip("+").partition("=") for word in overrides)
    return [f"{key}={value}: the key is called {OTHER_NAME[key]} now" for key, _, value in keys if key in OTHER_NAME]


def notices(job: Job, table: Table) -> list[str]:
    """Return what is printed when the first runs on a table start: older names of keys, then facts about the cells."""
    overrides = job.labels.cells.overrides if job.labels is not None else ()
    return [*renamed(overrides), *DatasetInfo.of(table, job.config.encoder.name).messages]


class _Tables:
    """The tables last used in this process: jobs that share data share one in memory."""

    def __init__(self, most: int) -> None:
        self.most, self.tables = most, OrderedDict[tuple[str, ...], Table]()

    def get(self, key: tuple[str, ...], make: Callable[[], Table]) -> Table:
        if key not in self.tables:
            self.tables[key] = make()
            while len(self.tables) > self.most:
                self.tables.popitem(last=False)
        self.tables.move_to_end(key)
        return self.tables[key]


_tables = _Tables(most=8)


def load_cells(job: Job) -> Table:
    """Return the cells that a job trains on; jobs that share data share one table in memory.

    A task that reads no cells makes its own table, ``table(config)`` beside its ``build``.
    """
    source, env = job.config.source, job.config.env
    make: Callable[[object], CellTable] | None = getattr(registry.envs[env.name].build, "table", None)
    if make is not None:
        return make(env)

    def read() -> RawCells:
        with status.step(f"reading {job.raw['source'].get('path') or 'source=' + source.name}"):
            cells: RawCells = registry.sources[source.name].build(source)
        return cells

    groups = json.dumps({group: job.raw[group] for group in DATA_GROUPS if group in job.raw}, sort_keys=True)
    files = ((job.raw.get(group) or {}).get(key) for group, key in FILE_KEYS)
    versions = [stamp for file in files if file for stamp in stamps(Path(file))]
    return _tables.get((groups, *versions), lambda: prepare(job, read))


def prepare(job: Job, read: Callable[[], RawCells]) -> Table:
    """Return the table that a job makes of the cells that ``read`` returns.

    ``read`` is not called where a table of cells lies ready on disk.

    Raises
    ------
    UserError
        As ``read``, ``load_table`` or ``load_perturbations``.
    """
    config = job.config
    if isinstance(config.split, ScreenSplitConfig):
        from perturbrl.screens.load import load_perturbations

        named, again = config.conditions.perturbation, getattr(config.source, "perturbation_key", None)
        require(
            again in (None, named) or named is None,
            "source.perturbation_key",
            f"{again!r} and conditions.perturbation={named!r} name one thing; leave out one of them",
        )
        return load_perturbations(read(), config.data, config.conditions, config.split, config.description)

    def build() -> CellTable:
        return load_table(read(), config.data, config.encoder, config.split)

    file = job.raw["source"].get("path") or job.raw["source"].get("network")
    code = code_digest(registry.sources[config.source.name].build, registry.encoders[config.encoder.name].build)
    # conditions and descriptions do not change a table of cells
    groups = json.dumps({group: job.raw[group] for group in CELL_GROUPS}, sort_keys=True)
    return cached_table(groups, Path(file) if file else None, code, build)
