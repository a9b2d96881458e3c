"""From labels in obs to conditions: what was perturbed, where and how strongly. Letters: N cells, P conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perturbrl.bounds import NotEmpty, PositiveInt
from perturbrl.config import require
from perturbrl.data.readers.columns import UNASSIGNED, is_control_name
from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError
from perturbrl.screens.schema import Condition, Rows

AUTO = "auto"
STANDARD_LABEL = "perturbation"
STANDARD = {"context": "cell_type", "dose": "dose", "batch": "batch"}  # the column that ``auto`` looks for
CONTROL_DOSE = -1.0  # no dose: of a control, or of a screen without doses
_MISSING = frozenset({UNASSIGNED, "", "nan", "none", "na", "n/a"})


@dataclass(frozen=True)
class ConditionsConfig:
    """How the columns of obs name a condition; ``conf/conditions/*.yaml`` says what each key means."""

    name: str
    perturbation: str | None
    control: list[str]
    separator: Annotated[str, NotEmpty("+")]
    strip_suffix: str | None
    effects: dict[str, float]
    context: str | None
    dose: str | None
    batch: str | None
    keep: str | None
    min_cells: PositiveInt
    max_targets: PositiveInt

    def check(self, where: str) -> None:
        """Raise ``UserError`` for a suffix that is no regular expression."""
        if self.strip_suffix is not None:
            try:
                re.compile(self.strip_suffix)
            except re.error as error:
                message = f"{self.strip_suffix!r} is no regular expression ({error})"
                raise UserError(f"{where}.strip_suffix: {message}") from None


@dataclass(frozen=True)
class Parsed:
    """The cells that stay (``rows``, sorted; n of N) and what each of them is.

    ``condition`` [n] indexes ``conditions`` (sorted), ``batch`` [n] indexes ``batches`` (sorted); ``genes`` maps a
    target to its gene and the sign of its effect, where the label says both. ``columns`` names the obs column behind
    ``context``, ``dose`` and ``batch``, where there is one.
    """

    rows: Rows
    condition: Rows
    conditions: tuple[Condition, ...]
    batch: Rows
    batches: tuple[str, ...]
    genes: dict[str, tuple[str, float]]
    notes: tuple[str, ...]
    columns: dict[str, str]


def parse_label(label: str, config: ConditionsConfig) -> tuple[str, ...]:
    """Return the targets that a label names, sorted, each once; none for a control.

    ``B+A`` and ``A+B`` are one condition, ``ctrl+A`` and ``A+ctrl`` are ``A``.
    """
    suffix = re.compile(config.strip_suffix) if config.strip_suffix is not None else None
    known = frozenset(config.control)
    if label in known:
        return ()
    targets = set()
    for part in label.split(config.separator):
        plain = part.strip()
        if plain in known:
            continue
        plain = suffix.sub("", plain) if suffix is not None else plain
        if plain and plain not in known and not is_control_name(plain):
            targets.add(plain)
    return tuple(sorted(targets))


def parse_conditions(obs: pd.DataFrame, config: ConditionsConfig, where: str) -> Parsed:
    """Read the conditions of N cells.

    Cells without a label, not kept by ``conditions.keep``, of too rare a condition or of one with too many targets are
    left out, and ``notes`` say how many.

    Raises
    ------
    UserError
        A column is not there; a context, batch or dose is missing for a perturbed cell; there are no control cells, or
        none in a context; nothing perturbed is left.
    """
    notes: list[str] = []
    alive = np.ones(len(obs), dtype=np.bool_)

    def leave_out(mask: NDArray[np.bool_], why: str) -> None:
        if (alive & mask).any():
            notes.append(f"{int((alive & mask).sum())} of {len(obs)} cells are left out: {why}")
            alive[mask] = False

    labels = _labels(obs, config, where)
    codes, uniques = pd.factorize(labels)
    _require_known(config, uniques)
    unlabelled = np.array([str(u).strip().lower() in _MISSING for u in uniques])
    leave_out(unlabelled[codes], f"no perturbation label in obs[{config.perturbation or STANDARD_LABEL!r}]")
    if config.keep is not None:
        leave_out(~_truth(_column(obs, config.keep, "keep", where), config.keep, where), f"{config.keep} is not true")
    targets = [() if missing else parse_label(str(u), config) for u, missing in zip(uniques, unlabelled, strict=True)]
    if config.perturbation is None and "is_control" in obs.columns:
        flag = obs["is_control"].to_numpy(dtype=np.bool_)
        # The column is the file's own word; a label such as "ctrl_dmso_7" only looks like a perturbation.
        targets, codes = [*targets, ()], np.where(flag, len(targets), codes)
    sizes = np.array([len(t) for t in targets])
    leave_out(sizes[codes] > config.max_targets, f"more than conditions.max_targets={config.max_targets} targets")
    require(bool((sizes[codes][alive] == 0).any()), where, _no_control(uniques, config))

    contexts = _texts(obs, config.context, "context", alive, where)
    doses = _doses(obs, config, alive & (sizes[codes] > 0), where)
    condition, conditions = _index(targets, codes, contexts, doses, alive)
    counts = np.bincount(condition[alive], minlength=len(conditions))
    for k in np.flatnonzero((counts > 0) & (counts < config.min_cells)):
        short = f"{conditions[k].name} has fewer than conditions.min_cells={config.min_cells} cells"
        require(not conditions[k].is_control, where, f"{short}; its context has no usable control")
        leave_out(condition == k, short)
    _require_controls(conditions, np.bincount(condition[alive], minlength=len(conditions)), where)

    rows = np.flatnonzero(alive).astype(np.int64)
    present, dense = np.unique(condition[rows], return_inverse=True)
    used = tuple(conditions[k] for k in present)
    batch = _texts(obs, config.batch, "batch", alive, where)
    names, batches = np.unique(batch[rows].astype(str), return_inverse=True)
    genes = _genes(sorted({t for c in used for t in c.targets}), config.effects)
    columns = {key: name for key in STANDARD if (name := _column_name(obs, getattr(config, key), key)) is not None}
    return Parsed(
        *(rows, dense.astype(np.int64), used, batches.astype(np.int64), tuple(names.tolist()), genes),
        tuple(notes),
        columns,
    )


def _require_known(config: ConditionsConfig, labels: pd.Index[str] | NDArray[np.object_]) -> None:
    """Refuse a name for control that is neither a label nor a part of one: it would be ignored."""
    whole = {str(label) for label in labels}
    known = whole | {part.strip() for label in whole for part in label.split(config.separator)}
    unknown = [name for name in config.control if name not in known]
    message = f"{listed(unknown)} is no label of a cell, nor a part of one; labels are {listed(sorted(whole), 20)}"
    require(not unknown, "conditions.control", message)


def _labels(obs: pd.DataFrame, config: ConditionsConfig, where: str) -> NDArray[np.object_]:
    name = config.perturbation or STANDARD_LABEL
    if config.perturbation is None and name not in obs.columns:
        raise UserError(
            f"{where}: no column of perturbations was found in obs; name one in source.perturbation_key (its columns "
            f"are {listed(obs.columns, 20)})"
        )
    values = _column(obs, name, "perturbation", where).astype(object)
    return np.where(values.isna(), UNASSIGNED, values.astype(str)).astype(object)


def _column(obs: pd.DataFrame, name: str, key: str, where: str) -> pd.Series[str]:
    if name not in obs.columns:
        raise UserError(
            f"{where}: conditions.{key}={name!r} is not a column of obs; its columns are {listed(obs.columns, 20)}"
        )
    column: pd.Series[str] = obs[name]
    return column


def _texts(obs: pd.DataFrame, name: str | None, key: str, alive: NDArray[np.bool_], where: str) -> NDArray[np.object_]:
    """Return a column as text; "" in every cell where none is named (or ``auto`` finds none)."""
    name = _column_name(obs, name, key)
    if name is None:
        return np.full(len(obs), "", dtype=object)
    values = _column(obs, name, key, where).astype(object)
    missing = values.isna().to_numpy() & alive
    _require_complete(missing, obs, f"{where}: obs[{name!r}]", f"every cell needs a {key}")
    return np.asarray(values.astype(str), dtype=object)


def _doses(
    obs: pd.DataFrame, config: ConditionsConfig, perturbed: NDArray[np.bool_], where: str
) -> NDArray[np.float64] | None:
    name = _column_name(obs, config.dose, "dose")
    if name is None:
        return None
    column = _column(obs, name, "dose", where).astype(object)
    values = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    bad = perturbed & ~(np.isfinite(values) & (values >= 0))
    _require_complete(bad, obs, f"{where}: obs[{name!r}]", "the dose of a perturbed cell is a number, 0 or more")
    return values


def _column_name(obs: pd.DataFrame, name: str | None, key: str) -> str | None:
    """Return the column that ``conditions.<key>`` stands for; None where it is null, or ``auto`` finds none."""
    if name != AUTO:
        return name
    return STANDARD[key] if STANDARD[key] in obs.columns else None


def _require_complete(bad: NDArray[np.bool_], obs: pd.DataFrame, where: str, rule: str) -> None:
    if bad.any():
        first = obs.index[int(np.flatnonzero(bad)[0])]
        raise UserError(f"{where} has no usable value in {int(bad.sum())} of {len(obs)} cells, first {first!r}; {rule}")


def _truth(values: pd.Series[str], name: str, where: str) -> NDArray[np.bool_]:
    words = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}
    read = [words.get(str(v).lower()) for v in values.astype(object)]
    require(None not in read, f"{where}: conditions.keep={name!r}", "the column must hold true or false in every cell")
    return np.asarray(read, dtype=np.bool_)


def _index(
    targets: list[tuple[str, ...]],
    codes: NDArray[np.int64],
    contexts: NDArray[np.object_],
    doses: NDArray[np.float64] | None,
    alive: NDArray[np.bool_],
) -> tuple[Rows, tuple[Condition, ...]]:
    """Return the number of each cell's condition (0, which nobody reads, for cells left out), and the conditions."""
    distinct = sorted(set(targets))
    which = np.array([distinct.index(t) for t in targets])[codes]
    dosed = np.array([len(t) > 0 for t in targets])[codes] if doses is not None else np.zeros(len(codes), np.bool_)
    dose = np.where(dosed, doses if doses is not None else 0.0, CONTROL_DOSE)
    keys = pd.DataFrame({"targets": which, "context": contexts, "dose": dose})[alive]
    groups = keys.groupby(["targets", "context", "dose"], sort=False)
    found = [Condition(distinct[t], c, None if d == CONTROL_DOSE else float(d)) for t, c, d in groups.size().index]
    order = sorted(range(len(found)), key=found.__getitem__)
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    condition = np.zeros(len(codes), dtype=np.int64)
    condition[alive] = rank[groups.ngroup().to_numpy()]
    return condition, tuple(found[k] for k in order)


def _require_controls(conditions: tuple[Condition, ...], counts: NDArray[np.int64], where: str) -> None:
    present = [c for c, n in zip(conditions, counts, strict=True) if n]
    have = {c.context for c in present if c.is_control}
    lacking = sorted({c.context for c in present} - have)
    require(
        not lacking,
        where,
        f"no control cells in the context {listed(lacking)}; every context needs its own",
    )
    require(any(not c.is_control for c in present), where, "no perturbed cells are left; lower conditions.min_cells")


def _no_control(labels: pd.Index[str] | NDArray[np.object_], config: ConditionsConfig) -> str:
    key = "source.control_label" if config.perturbation is None else "conditions.control"
    return (
        f"no control cells: no is_control column and no label that means control; name theirs in {key} "
        f"(labels: {listed(sorted(str(v) for v in labels))})"
    )


def _genes(targets: list[str], effects: dict[str, float]) -> dict[str, tuple[str, float]]:
    """Return the gene of each target that ends in a suffix of ``effects``, and its effect.

    A number after the suffix multiplies the effect (``_kd0.7``); what follows an @ is a duration (``_ko@40``).
    """
    found = {}
    for target in targets:
        for suffix, sign in effects.items():
            if target.endswith(suffix) and len(target) > len(suffix):
                found[target] = (target.removesuffix(suffix), float(sign))
            elif match := re.fullmatch(rf"(.+){re.escape(suffix)}(\d+(?:\.\d+)?)?(?:@\d+)?", target):
                found[target] = (match[1], float(sign) * float(match[2] or 1.0))
    return found
