"""Runs that belong to a row but have no evaluation: what is counted of a row must say what is not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from perturbrl import paths
from perturbrl.report import recorded
from perturbrl.report.recorded import CHECKSUM, Recorded
from perturbrl.report.table import Row, Table
from perturbrl.run_dirs import Label, Labels, labels

T = TypeVar("T", bound=Table[Any])
ANY_SEED = ("seed", "split.seed")
PARTS = ("cells", "task", "agent")
UNKNOWN = Labels("", *(Label("") for _ in PARTS))


@dataclass(frozen=True)
class Described:
    """What is known of a run: its name, agent, policy and labels, its seed, and its settings if it has a config.

    Without a ``run.json`` that can be read, ``name`` and ``seed`` are those of the config, all others are empty.
    """

    folder: Path
    name: str = ""
    agent: str = ""
    policy: str = ""
    labels: str = ""
    seed: int = 0
    settings: Recorded = field(default_factory=Recorded)

    @property
    def has_config(self) -> bool:
        """Whether the settings are those of a config, and not only the overrides of a command."""
        return "agent.name" in self.settings.agent


def count_missing(tables: Sequence[T], without: Iterable[Path], held_out: bool = False) -> list[T]:
    """Return the tables, the field ``missing`` of each agent filled: runs among ``without`` that differ in seed only.

    Such a run has the name and the recorded settings of the row's runs. Where one of them has no config, it lies beside
    one of the row's runs or has the same labels, and has the same agent, if its ``run.json`` can be read. ``held_out``:
    the tables are of held-out perturbations, where the seed of a split is no setting.
    """
    absent = [_describe(folder) for folder in without]
    if not absent:
        return list(tables)
    rows = [(k, row) for k, table in enumerate(tables) for row in table.agents]
    present = [[_describe(Path(run)) for run, _, _ in row.runs] for _, row in rows]
    everything = [*absent, *(one for row in present for one in row)]
    keys = dict(zip((one.folder for one in everything), _keys(everything, held_out), strict=True))
    counts: dict[tuple[int, str], int] = {}
    for one in absent:
        alike = [k for k, (_, row) in enumerate(rows) if _belongs(one, row, present[k], keys)]
        beside = [k for k in alike if one.folder.parent in {run.folder.parent for run in present[k]}]
        for table, row in (rows[k] for k in beside or alike):  # of a sweep that was made twice, the half where it lies
            counts[table, row.label] = counts.get((table, row.label), 0) + 1
    return [
        replace(table, rows=tuple(_counted(row, counts.get((k, row.label), 0)) for row in table.rows))
        for k, table in enumerate(tables)
    ]


def notes(table: Table[Any]) -> list[str]:
    """Return a sentence for each agent of which runs are missing."""
    return [
        f"{row.label}: {row.missing} of {row.missing + len(row.runs)} runs have no evaluation and are not counted."
        for row in table.agents
        if row.missing
    ]


def _counted(row: Row, missing: int) -> Row:
    return replace(row, missing=missing) if row.agent and missing else row


def _belongs(one: Described, row: Row, runs: Sequence[Described], keys: Mapping[Path, str]) -> bool:
    if one.has_config and all(run.has_config for run in runs):
        return keys[one.folder] in {keys[run.folder] for run in runs}
    beside = one.folder.parent in {run.folder.parent for run in runs}
    return one.agent in ("", row.agent) and (
        beside or (one.labels, one.policy) in {(run.labels, run.policy) for run in runs}
    )


def _keys(runs: Sequence[Described], held_out: bool) -> list[str]:
    """Return the name and the settings of each run without seeds, and without what only its result knows."""
    settings = recorded.without_seeds([run.settings for run in runs], [run.seed for run in runs], held_out)
    parts = [[{k: v for k, v in getattr(one, part).items() if k != CHECKSUM} for part in PARTS] for one in settings]
    return [json.dumps([run.name, some], sort_keys=True, default=str) for run, some in zip(runs, parts, strict=True)]


def _describe(folder: Path) -> Described:
    """Return what ``run.json`` and ``config.yaml`` of a run say."""
    try:
        run = json.loads((folder / paths.RUN).read_text(encoding="utf-8"))
        spelled, agent, seed = labels(run, folder), str(run["agent"]), int(run["seed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no file, no JSON, or JSON of something else
        config = recorded.read_config(folder) or {}
        name, of_run = str(config.get("name", "")), config.get("seed")
        settings = recorded.read(folder, {}, {}, UNKNOWN)
        return Described(folder, name, seed=of_run if isinstance(of_run, int) else 0, settings=settings)
    settings = recorded.read(folder, run, {}, spelled)
    policy = str(run.get("policy", ""))
    return Described(folder, spelled.name, agent, policy, _key(spelled), seed, settings)


def _key(spelled: Labels) -> str:
    parts = (spelled.cells.without(*ANY_SEED), spelled.task, spelled.agent.without(*ANY_SEED))
    return " ".join((spelled.name, *map(str, parts)))
