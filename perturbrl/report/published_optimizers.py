"""What the sources published of optimisers, shown below a table whose rows differ in the optimiser."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

import pandas as pd

from perturbrl.report.table import Cell, Grid, Line
from perturbrl.report.text import spell

COLUMNS = {
    **{f"mse_{horizon}": f"MSE, horizon {horizon}" for horizon in (1, 3, 5, 10, 20)},
    **{"accuracy": "accuracy", "mse": "MSE", "pearson": "Pearson"},
}
NOTE = (
    "From another task: supervised prediction of up to 20 steps, 2,000 genes, 500 epochs, the third variant of ASGD "
    "(first moment, no bias correction). Only the order of the optimisers may be compared with the rows above. The "
    "standard deviation stored beside each MSE by horizon exceeds its mean; AMSGrad and Padam were not published."
)


@cache
def values() -> dict[str, dict[str, float]]:
    """Return optimiser -> metric -> published value."""
    text = files("perturbrl.report").joinpath("published_optimizers.csv").read_text(encoding="utf-8")
    out: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(text.splitlines()):
        out.setdefault(row["optimizer"], {})[row["metric"]] = float(row["value"])
    return out


def grids(runs: pd.DataFrame) -> tuple[Grid, ...]:
    """Return the published table where two or more of its optimisers are among the runs of a table; else nothing."""
    compared = set(runs["optimizer"]) & set(values())
    if len(compared) < 2 or not runs["beside_published"].all():
        return ()
    lines = (
        Line(name, "published", tuple(Cell(spell(row[m], 3) if m in row else "") for m in COLUMNS))
        for name, row in values().items()
        if name in compared
    )
    spans = (("test error by horizon", 5), ("all modalities", 3))
    return (Grid("Published by the sources in 2026, by optimiser", tuple(COLUMNS.values()), tuple(lines), NOTE, spans),)
