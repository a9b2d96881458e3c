"""Whether new runs agree with a reference: a prediction interval for each value, and what lies outside.

For the mean of m new seeds, given n seeds of the reference with standard deviation s, the interval is
mean +- t s sqrt(1/n + 1/m). t is Student's quantile for ``LEVEL`` divided by the number of values compared
(Bonferroni). s is pooled over the tables of the reference, and is at least the spread in the value's own table. So runs
without drift fail the check in one of a hundred cases, or three where an agent's spread differs more than twofold from
table to table (tests/report/test_reference.py draws both).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from perturbrl.metrics_info import PAPER_COLUMNS
from perturbrl.report.published import TABLE_NUMBER
from perturbrl.report.reference import Key, Scores
from perturbrl.report.text import spell

LEVEL = 0.01  # of false alarms, over the whole check
UNITS = 2  # of the last printed digit: what rounding may change in a value that no seed changes


@dataclass(frozen=True)
class Value:
    """One value of a table beside its reference: means over seeds, the interval, and whether it agrees."""

    table: str
    row: str
    metric: str
    mean: float | None
    seeds: int
    diverged: int
    reference: float | None
    low: float | None
    high: float | None
    agrees: bool
    identical: bool

    def __str__(self) -> str:
        """Spell what drifted in one line."""
        info = PAPER_COLUMNS[self.metric]
        number = TABLE_NUMBER.get(self.table)
        place = f"{f'Table {number} ({self.table})' if number else self.table}, {self.row}, {info.title}"
        shown = (self.mean, self.reference, self.low, self.high)
        if None in shown:
            return f"{place}: {self.diverged} of {self.seeds} runs diverged, the reference's did not"
        mean, reference, low, high = (spell(v, info.digits + 1) for v in shown if v is not None)
        return f"{place}: {mean}, reference {reference}, allowed {low} to {high}"


@dataclass(frozen=True)
class Check:
    """All values compared, the reference, and the rows that one side lacks."""

    reference: Scores
    values: tuple[Value, ...]
    missing: tuple[str, ...]

    @property
    def drifted(self) -> tuple[Value, ...]:
        """The values outside their intervals."""
        return tuple(value for value in self.values if not value.agrees)

    @property
    def agrees(self) -> bool:
        """Whether nothing drifted and nothing is missing."""
        return not self.drifted and not self.missing

    def lines(self) -> list[str]:
        """Return one line for each value that drifted or row that is missing, and one that sums up."""
        made = self.reference.made
        origin = f"{self.reference.name} ({made.get('date')}, commit {made.get('commit')}, {made.get('processor')})"
        identical = sum(value.identical for value in self.values)
        total = f"{len(self.values) - len(self.drifted)} of {len(self.values)} values agree with the reference {origin}"
        total += f"; {identical} are the reference's to the last stored digit"
        return [*(f"drift: {value}" for value in self.drifted), *(f"drift: {row}" for row in self.missing), total]

    def to_json(self) -> dict[str, Any]:
        """Return everything that was compared, for machines."""
        return {
            "agrees": self.agrees,
            "level": LEVEL,
            "reference": {"name": self.reference.name, **self.reference.made},
            "drifted": [asdict(value) for value in self.drifted],
            "missing": list(self.missing),
            "values": [asdict(value) for value in self.values],
        }


def compare(scores: Scores, reference: Scores, level: float = LEVEL) -> Check:
    """Compare new runs with a reference, over the tables that the runs have.

    Parameters
    ----------
    scores
        Values of the new runs, from one seed on.
    reference
        Values of the reference.
    level
        Probability of an alarm without drift.
    """
    wanted = {key for key in reference.values if key[0] in scores.data}
    keys = [key for key in scores.values if key in wanted]
    quantile_level = 1 - level / (2 * len(keys)) if keys else 1.0
    values = tuple(_value(key, scores.values[key], reference, quantile_level) for key in keys)
    lacking = sorted({f"{table}, {row}: no such run" for table, row, _ in wanted - set(keys)})
    return Check(reference, values, tuple(lacking))


def _value(key: Key, seeds: Mapping[int, float], reference: Scores, quantile_level: float) -> Value:
    stored = reference.values[key]
    new, old = _finite(seeds.values()), _finite(stored.values())
    lost, usual = len(seeds) - len(new), len(stored) - len(old)
    identical = all(seed in stored and math.isclose(v, stored[seed], rel_tol=1e-5) for seed, v in seeds.items())
    about = (*key, float(np.mean(new)) if len(new) else None, len(seeds), lost)
    if not len(new) or not len(old) or (lost and not usual):
        return Value(*about, float(np.mean(old)) if len(old) else None, None, None, False, identical)
    center, (spread, freedom) = float(np.mean(old)), _spread(key, reference)
    least = UNITS * 10.0 ** -PAPER_COLUMNS[key[2]].digits
    quantile = float(stdtrit(freedom, quantile_level)) if spread else 0.0
    half = max(least, quantile * spread * math.sqrt(1 / len(old) + 1 / len(new)))
    agrees = abs(float(np.mean(new)) - center) <= half
    return Value(*about, center, center - half, center + half, agrees, identical)


def _spread(key: Key, reference: Scores) -> tuple[float, int]:
    """Return the standard deviation of a row's metric, pooled over tables, and its degrees of freedom."""
    _, row, metric = key
    samples = {k[0]: _finite(s.values()) for k, s in reference.values.items() if k[1:] == (row, metric)}
    variances = {table: (float(np.var(x, ddof=1)), len(x) - 1) for table, x in samples.items() if len(x) > 1}
    freedom = sum(n for _, n in variances.values())
    pooled = sum(variance * n for variance, n in variances.values()) / freedom if freedom else 0.0
    in_table = variances.get(key[0], (0.0, 0))[0]
    return math.sqrt(max(pooled, in_table)), freedom


def _finite(values: Sequence[float] | Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    x = np.asarray(list(values), dtype=np.float64)
    return x[np.isfinite(x)]
