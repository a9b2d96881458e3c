"""Which splits can be drawn from a screen, for the error about one that cannot; tried, never guessed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl import registry
from perturbrl.errors import UserError
from perturbrl.screens import leaks
from perturbrl.screens.conditions import STANDARD, ConditionsConfig, parse_conditions
from perturbrl.screens.schema import Screen
from perturbrl.screens.split import draw_split
from perturbrl.screens.splits.builder import ScreenSplitConfig

MOST_COLUMNS, MOST_VALUES = 12, 50  # columns that are tried, and different values in one
SHOWN, MOST_OF_A_KIND = 4, 2
BY_COLUMN = {"unseen_context": "context", "unseen_dose": "dose", "unseen_batch": "batch"}
LAST = "iid_cells"  # possible nearly everywhere, and no prediction
NOT_TRIED = ("perturbation", "is_control", "pseudotime", "fate")


def advice(obs: pd.DataFrame, screen: Screen, conditions: ConditionsConfig, kind: str) -> str:
    """Return what can be drawn instead of a split of ``kind``, with the keys that make it possible.

    ``obs`` are the columns of all cells of the source. First come keys that make the same split possible, then other
    splits, then those of them that need a key.
    """
    found = list(islice(_drawable(obs, screen, conditions, kind), SHOWN))
    if not found:
        return "no split of perturbations can be drawn from these cells; were labels misread (conditions=)?"
    return f"what can be drawn: {'; '.join(found)}"


def _drawable(obs: pd.DataFrame, screen: Screen, conditions: ConditionsConfig, kind: str) -> Iterator[str]:
    kinds = [k for k in registry.splits if issubclass(registry.splits[k].schema, ScreenSplitConfig)]
    others = sorted((k for k in kinds if k != kind), key=lambda k: (k == LAST, list(kinds).index(k)))
    yield from _with_a_column(obs, screen, conditions, kind)
    plain = [other for other in others if _draws(screen, other)]
    for other in plain:
        if other != LAST:
            yield f"split={other}"
    for other in others:
        if other in BY_COLUMN and other not in plain:
            yield from _with_a_column(obs, screen, conditions, other)
    if LAST in plain:
        yield f"split={LAST} (a sanity check, not prediction)"
    pooled = _read(obs, screen, conditions, "batch", None) if len(screen.batches) > 1 else None
    if pooled is not None:
        ways = _pooled(obs, pooled, dataclasses.replace(conditions, batch=None), [kind, *others])
        for k, words in enumerate(ways):
            yield words + " (differences between batches then count as effects)" * (k == 0)


def _pooled(obs: pd.DataFrame, screen: Screen, conditions: ConditionsConfig, kinds: list[str]) -> Iterator[str]:
    """Yield what can be drawn from cells that are all of one batch: a split with contexts or doses needs two keys."""
    for kind in kinds:
        if kind == LAST and kind != kinds[0]:
            continue
        if _draws(screen, kind):
            yield f"split={kind} conditions.batch=null"
        elif BY_COLUMN.get(kind, "batch") != "batch":
            for words in _with_a_column(obs, screen, conditions, kind):
                yield f"{words} conditions.batch=null"


def _with_a_column(obs: pd.DataFrame, screen: Screen, conditions: ConditionsConfig, kind: str) -> Iterator[str]:
    """Yield the split with each column that makes it possible: as context, dose or batch, whichever it is about."""
    keys = dict.fromkeys((BY_COLUMN.get(kind, "batch"), "batch"))
    for key in keys if len(screen.batches) > 1 else list(keys)[:1]:
        possible = (
            column for column in _candidates(obs, screen, key) if _possible(obs, screen, conditions, kind, key, column)
        )
        yield from (f"split={kind} conditions.{key}={column}" for column in islice(possible, MOST_OF_A_KIND))


def _candidates(obs: pd.DataFrame, screen: Screen, key: str) -> list[str]:
    """Return columns that could hold contexts, doses or batches: few values, none missing, numbers for a dose.

    The column of the usual name comes first; of columns that group the cells alike one is enough.
    """
    usual = STANDARD[key]
    groupings: dict[str, NDArray[np.int64]] = {}
    for name in sorted(map(str, obs.columns), key=lambda name: (name != usual, name in STANDARD.values())):
        values = obs[name]
        numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        fits = numbers if key == "dose" else not pd.api.types.is_float_dtype(values)
        if name in (*NOT_TRIED, screen.columns.get(key)) or not fits or values.isna().any():
            continue
        codes = pd.factorize(values.astype(object))[0]
        if 2 <= codes.max() + 1 <= MOST_VALUES and not any(
            np.array_equal(codes, other) for other in groupings.values()
        ):
            groupings[name] = codes
    return list(groupings)[:MOST_COLUMNS]


def _possible(
    obs: pd.DataFrame, screen: Screen, conditions: ConditionsConfig, kind: str, key: str, column: str | None
) -> bool:
    changed = _read(obs, screen, conditions, key, column)
    return changed is not None and _draws(changed, kind)


def _read(
    obs: pd.DataFrame, screen: Screen, conditions: ConditionsConfig, key: str, column: str | None
) -> Screen | None:
    """Return the screen as it is with another column, without expression; None where the column does not fit."""
    changes: dict[str, Any] = {key: column}
    try:
        parsed = parse_conditions(obs, dataclasses.replace(conditions, **changes), screen.source)
    except UserError:
        return None
    return dataclasses.replace(
        screen,
        x=sparse.csr_matrix((len(parsed.rows), len(screen.features)), dtype=np.float32),
        condition=parsed.condition,
        conditions=parsed.conditions,
        batch=parsed.batch,
        batches=parsed.batches,
        obs=obs.iloc[parsed.rows],
        genes=parsed.genes,
        columns=parsed.columns,
    )


def _draws(screen: Screen, kind: str) -> bool:
    """Say whether a split with its default settings can be drawn, and passes the checks for leaks."""
    try:
        leaks.check_split(screen, draw_split(screen, registry.splits.bind(registry.splits.defaults(kind))))
    except UserError:
        return False
    return True
