"""What a verifier says of cells whose worth is known: real ones, controls, and real ones under a wrong label.

Half of the training cells of each condition, and of the controls, fit the verifiers; the other half is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from perturbrl.config import require
from perturbrl.generators.training_cells import TrainingCells
from perturbrl.generators.verifiers.base import Verifier
from perturbrl.records import write_parquet
from perturbrl.rng import numpy_generator

KINDS = ("real", "control", "shuffled")
GROUP = 64
"""Cells of a condition that are scored together, at most."""


def calibrate(
    make: Callable[[], Sequence[Verifier]], cells: TrainingCells, *, seed: int, least: int = 2
) -> pd.DataFrame:
    """Score real cells, controls, and real cells under the label of another condition.

    Parameters
    ----------
    make
        Returns the verifiers, not fitted: those in use are fitted on all training cells.
    cells
        Training cells.
    seed
        Of the halves and of the wrong labels.
    least
        Cells that a condition must have in each half; others are left out.

    Returns
    -------
    pandas.DataFrame
        One row for each verifier: ``verifier``; ``real`` (the ceiling: cells of the condition that it was not fitted
        on), ``control`` (the floor: unperturbed cells of the context), ``shuffled`` (cells of the condition scored as
        another one, of the same context where there is one), each the mean over conditions of equal weight, and
        ``<kind>_se`` its standard error over conditions; ``n_conditions``, ``n_cells`` (scored as real). NaN where a
        verifier does not apply, or no other condition is there.

    Raises
    ------
    UserError
        No condition has enough cells, or as of ``Verifier.fit``.
    """
    rng = numpy_generator(seed, "calibration")
    first, second = halves(cells, rng)
    counts = torch.minimum(first.counts, second.counts)
    chosen = cells.perturbed[counts[cells.perturbed] >= least]
    has_controls = torch.tensor([len(rows) >= least for rows in second.controls], device=chosen.device)
    chosen = chosen[has_controls[cells.context[chosen]]]
    wanted = f"no condition has {2 * least} training cells with controls, {least} in each half"
    require(len(chosen) > 0, "calibration", wanted)
    fitting = first.subset(torch.cat([*first.controls, torch.nonzero(torch.isin(first.condition, chosen))[:, 0]]))
    other = wrong_labels(chosen, cells.context, rng)
    records = []
    for verifier in make():
        verifier.fit(fitting)
        values = _values(verifier, second, chosen, other)
        n_cells = sum(min(GROUP, int(second.counts[p])) for p in chosen)
        records.append({"verifier": verifier.name, **_summary(values), "n_conditions": len(chosen), "n_cells": n_cells})
    return pd.DataFrame(records)


def _values(verifier: Verifier, held_out: TrainingCells, chosen: Tensor, other: Tensor) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for condition, wrong in zip(chosen, other, strict=True):
        real = held_out.x[_some(held_out.rows(int(condition)))]
        control = held_out.x[_some(held_out.controls[int(held_out.context[condition])])]
        for kind, x, label in (("real", real, condition), ("control", control, condition), ("shuffled", real, wrong)):
            known = label >= 0
            values[kind].append(float(verifier.score(x[None], label[None]).mean()) if known else float("nan"))
    return values


def _summary(values: dict[str, list[float]]) -> dict[str, float]:
    out: dict[str, float] = {}
    for kind, every in values.items():
        known = np.array(every)[np.isfinite(every)]
        out[kind] = float(known.mean()) if len(known) else float("nan")
        out[f"{kind}_se"] = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
    return out


def halves(cells: TrainingCells, rng: np.random.Generator) -> tuple[TrainingCells, TrainingCells]:
    """Return the cells in two halves of each condition, drawn at random; the first has the odd cell."""
    order = torch.from_numpy(rng.permutation(len(cells.x))).to(cells.x.device)
    order = order[torch.argsort(cells.condition[order], stable=True)]
    counts = cells.counts
    place = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[cells.condition[order]]
    even = place % 2 == 0
    return cells.subset(order[even].sort().values), cells.subset(order[~even].sort().values)


def wrong_labels(chosen: Tensor, context: Tensor, rng: np.random.Generator) -> Tensor:
    """Return another of the chosen conditions for each, of the same context where there is one; -1 if it is alone."""
    order = torch.from_numpy(rng.permutation(len(chosen))).to(chosen.device)
    order = order[torch.argsort(context[chosen[order]], stable=True)]
    ordered, where = chosen[order], context[chosen[order]]
    n = torch.bincount(where)
    last = n.cumsum(0)[where] - 1
    place = torch.arange(len(order), device=order.device)
    following = torch.where(place < last, place + 1, last + 1 - n[where])
    alone = n[where] == 1
    following = torch.where(alone, (place + 1) % len(order), following)
    wrong = torch.full_like(chosen, -1)
    wrong[order] = torch.where(following == place, -1, ordered[following])
    return wrong


def _some(rows: Tensor) -> Tensor:
    n = min(GROUP, len(rows))
    return rows[torch.arange(n, device=rows.device) * len(rows) // n]


def write_calibration(path: Path, frame: pd.DataFrame) -> None:
    """Write what ``calibrate`` returned as parquet, atomically."""
    write_parquet(path, frame)
