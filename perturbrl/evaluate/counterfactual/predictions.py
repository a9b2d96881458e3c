"""Predictions of other programs, from a .h5ad file of predicted cells or profiles. Letters: N cells, G genes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.readers.anndata_files import read_part
from perturbrl.data.readers.columns import is_control_name
from perturbrl.data.readers.kinds import profile
from perturbrl.data.readers.opened import listed
from perturbrl.effects.observed import ObservedEffects
from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual.export import CHANGE, read_changes
from perturbrl.evaluate.counterfactual.prediction import Prediction
from perturbrl.evaluate.counterfactual.reference import mean_of, note, references
from perturbrl.screens.schema import Condition, Rows, Screen

COLUMNS_OF_LABELS = ("condition", "perturbation")
SCALE = 2.0
"""By what factor the mean of all predicted values may differ from that of the controls."""

ROUNDING = 16 * float(np.finfo(np.float32).eps)
"""Part of a mean below which a difference is that of rounding."""


def read_predictions(file: str | Path, truth: ObservedEffects) -> Prediction:
    """Read log-normalised predicted cells (or one profile for each condition) of every test condition of ``truth``.

    ``var_names`` are the genes of the table in any order (others are ignored); ``obs["condition"]`` or
    ``obs["perturbation"]`` names the condition: as perturbrl does (``A+B@dose|context``), targets in any order; context
    and dose may be left out where one test condition has these targets. Cells of other conditions of the screen are
    ignored. Changes are measured from the controls that the file was made from (``references``): its own, labelled
    ``control`` (with a context in the label or in ``obs["context"]`` where there are several), else training controls.
    Of a file of ``protocol.export``, the mean changes that it carries are read, and its cells are made again from them,
    unless a generator made them.

    Raises
    ------
    UserError
        The file cannot be read; genes, the labels or test conditions are missing; a label is unknown; values are not
        finite, or not log-normalised as the table is; an exported file was changed.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"{file}: no such file; expected predictions as .h5ad")
    try:
        part, obs, _ = read_part(file, None)
        stored = read_changes(file)
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{file}: the file does not fit into memory") from None
    except Exception as error:  # a damaged file can make h5py or anndata raise anything
        reason = (str(error).splitlines() or [""])[0][:160]
        raise UserError(f"{file}: cannot be read as .h5ad ({type(error).__name__}: {reason})") from None
    screen = truth.table.screen
    columns = _columns(file, pd.Index(part.features), screen.features)
    labels = _labels(file, obs)
    rows, controls = _rows(file, labels, truth), _controls(labels, obs, truth)
    x = sparse.csr_matrix(part.x, dtype=np.float32)[:, columns]
    _check_values(file, x[np.concatenate([*rows, *controls.values()])])
    if stored is not None:
        if controls:  # what they show of the scale does not depend on how strong the predicted effects are
            _check_scale(file, x[np.concatenate(list(controls.values()))], truth)
        change = stored.of(truth.names, [x[cells] for cells in rows], file)[:, columns]
        given = {name for name, made in zip(stored.conditions, stored.generated, strict=True) if made}
        places = zip(truth.names, truth.conditions.tolist(), rows, strict=True)
        whole = {condition: x[cells] for name, condition, cells in places if name in given}
        note_of = f"changes are those that the run stored in varm[{CHANGE!r}]"
        return Prediction(change, whole.get if whole else None, note=note_of)
    _check_scale(file, x[np.concatenate(rows)], truth)
    mean = np.vstack([mean_of(x[cells]) for cells in rows])
    used = references(mean, {context: x[cells] for context, cells in controls.items()}, truth)
    at = dict(zip(truth.conditions.tolist(), rows, strict=True))
    change = mean - np.array([used[context].mean for context in truth.contexts])
    return Prediction(
        # a file of single precision that predicts no change predicts none
        np.where(np.abs(change) > ROUNDING * np.abs(mean), change, 0.0),
        # a single row is a profile: it has no dispersion of its own
        lambda condition: x[at[condition]] if len(at[condition]) > 1 else None,
        {context: reference.cells for context, reference in used.items()},
        note=note(used),
    )


def _columns(file: Path, names: pd.Index[str], genes: Sequence[str]) -> NDArray[np.int64]:
    """Return where each gene of the table is in the file."""
    if not names.is_unique:
        raise UserError(f"{file}: var_names has {names[names.duplicated()][0]!r} twice; every gene must be there once")
    columns = names.get_indexer(list(genes))
    missing = np.flatnonzero(columns < 0)
    if len(missing):
        raise UserError(
            f"{file}: var_names lacks {len(missing)} of the {len(genes)} genes of the table, first "
            f"{genes[missing[0]]!r}; predictions must cover every gene"
        )
    return np.asarray(columns, dtype=np.int64)


def _labels(file: Path, obs: pd.DataFrame) -> NDArray[np.str_]:
    column = next((name for name in COLUMNS_OF_LABELS if name in obs.columns), None)
    if column is None:
        raise UserError(f'{file}: obs has no column "condition" of condition names; its columns are {listed(obs)}')
    if obs[column].isna().any():
        raise UserError(f"{file}: obs[{column!r}] has no label in {int(obs[column].isna().sum())} of {len(obs)} rows")
    return np.asarray(obs[column].astype(str), dtype=np.str_)


def _rows(file: Path, labels: NDArray[np.str_], truth: ObservedEffects) -> list[Rows]:
    """Return the rows of the file for each test condition."""
    screen = truth.table.screen
    test = {int(c): i for i, c in enumerate(truth.conditions)}
    rows: list[list[Rows]] = [[] for _ in test]
    known = _names(screen, truth)
    unknown = []
    for label in np.unique(labels):
        condition = known.get(_ordered(str(label)))
        if condition is None and is_control_name(str(label)):
            continue
        if condition is None:
            unknown.append(str(label))
        elif condition in test:
            rows[test[condition]].append(np.flatnonzero(labels == label))
    if unknown:
        raise UserError(
            f"{file}: {len(unknown)} labels are no condition of the data set, first {unknown[0]!r}; conditions are "
            f"named like {truth.names[0]!r}"
        )
    missing = [name for name, cells in zip(truth.names, rows, strict=True) if not cells]
    if missing:
        raise UserError(
            f"{file}: {len(missing)} of {len(test)} test conditions are not predicted, first {missing[0]!r}; is the "
            "split the same?"
        )
    return [np.sort(np.concatenate(cells)) for cells in rows]


def _controls(labels: NDArray[np.str_], obs: pd.DataFrame, truth: ObservedEffects) -> dict[str, Rows]:
    """Return the rows of control cells of each context of the test set; those of unknown context are left out."""
    contexts = {c.name: c.context for c in truth.table.screen.conditions if c.is_control}
    column = np.asarray(obs["context"].astype(str), dtype=np.str_) if "context" in obs.columns else None
    context_of = np.full(len(labels), None, dtype=object)
    for label in np.unique(labels):
        same = labels == label
        if label in contexts:
            context_of[same] = contexts[label]
        elif is_control_name(label):
            alone = next(iter(contexts.values())) if len(contexts) == 1 else None
            context_of[same] = alone if alone is not None or column is None else column[same]
    rows = {context: np.flatnonzero(context_of == context) for context in truth.controls}
    return {context: some for context, some in rows.items() if len(some)}


def _names(screen: Screen, truth: ObservedEffects) -> dict[str, int]:
    """Return the condition of each name, and of bare targets where they are one condition of the test set."""
    bare: dict[str, list[int]] = {}
    for c in truth.conditions:
        bare.setdefault(Condition(screen.conditions[c].targets).name, []).append(int(c))
    names = {name: conditions[0] for name, conditions in bare.items() if len(conditions) == 1}
    for i, condition in enumerate(screen.conditions):
        if condition.is_control:
            names.setdefault(Condition(()).name, i)
    return names | {condition.name: i for i, condition in enumerate(screen.conditions)}


def _ordered(label: str) -> str:
    """Return a label with its targets sorted: ``B+A@1|x`` is ``A+B@1|x``."""
    end = min((label.index(mark) for mark in "@|" if mark in label), default=len(label))
    return "+".join(sorted(label[:end].split("+"))) + label[end:]


def _check_values(file: Path, x: sparse.csr_matrix) -> None:
    """Refuse NaN, infinities and counts."""
    values = profile(x)
    if not values.clean:
        raise UserError(
            f"{file}: {values.nan + values.infinite} predicted values are NaN or infinite; all must be finite"
        )
    if values.whole and values.high > 1:
        raise UserError(f"{file}: X holds whole numbers, which are counts; predictions must be log-normalised")


def _check_scale(file: Path, x: sparse.csr_matrix, truth: ObservedEffects) -> None:
    """Refuse predicted cells that are not on the scale of the table: another library size, logs of logs."""
    mean, expected = float(x.mean(dtype=np.float64)), float(truth.control.mean())
    signed = bool((truth.control < 0).any())
    if not signed and not expected / SCALE <= mean <= expected * SCALE:
        raise UserError(
            f"{file}: the mean predicted value is {mean:.3g}, that of the controls {expected:.3g}; predictions must be "
            "log-normalised as the data are (log1p once, the same library size)"
        )
