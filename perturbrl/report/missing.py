"""Runs that belong to a row but have no evaluation: what is counted of a row must say what is not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from perturbrl import paths
from perturbrl.report.table import Row, Table
from perturbrl.run_dirs import Labels, labels

T = TypeVar("T", bound=Table[Any])
ANY_SEED = ("seed", "split.seed")


def count_missing(tables: Sequence[T], without: Iterable[Path]) -> list[T]:
    """Return the tables, the field ``missing`` of each agent filled: runs among ``without`` that differ in seed only.

    Such a run lies beside one of the row's runs, or has the same labels; and it has the same agent, if its
    ``run.json`` can be read.
    """
    about = [(folder, *_read(folder)) for folder in without]
    if not about:
        return list(tables)
    return [replace(table, rows=tuple(_counted(table, row, about) for row in table.rows)) for table in tables]


def notes(table: Table[Any]) -> list[str]:
    """Return a sentence for each agent of which runs are missing."""
    return [
        f"{row.label}: {row.missing} of {row.missing + len(row.runs)} runs have no evaluation and are not counted."
        for row in table.agents
        if row.missing
    ]


def _counted(table: Table[Any], row: Row, about: Sequence[tuple[Path, str, str, str]]) -> Row:
    if not row.agent:
        return row
    runs = [run for run, _, _ in row.runs]
    beside = {Path(run).parent for run in runs}
    mine = table.runs[table.runs["run"].isin(runs)]
    alike = {(_key(spelled), policy) for spelled, policy in zip(mine["labels"], mine["policy"], strict=True)}
    missing = sum(
        agent in ("", row.agent) and (folder.parent in beside or (key, policy) in alike)
        for folder, agent, policy, key in about
    )
    return replace(row, missing=missing) if missing else row


def _read(folder: Path) -> tuple[str, str, str]:
    """Return agent, policy and labels without seeds of a run; empty where ``run.json`` does not tell."""
    try:
        run = json.loads((folder / paths.RUN).read_text(encoding="utf-8"))
        return str(run["agent"]), str(run.get("policy", "")), _key(labels(run, folder))
    except (OSError, ValueError, KeyError, TypeError):
        return "", "", ""


def _key(spelled: Labels) -> str:
    parts = (spelled.cells.without(*ANY_SEED), spelled.task, spelled.agent.without(*ANY_SEED))
    return " ".join((spelled.name, *map(str, parts)))
