"""Ways in which a test can reach the training, each refused with a sentence that says where.

Letters: N cells, P conditions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations

import numpy as np

from perturbrl import registry
from perturbrl.config import require
from perturbrl.data.readers.columns import is_control_name
from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError
from perturbrl.screens.schema import Condition, Rows, Screen, ScreenSplit
from perturbrl.screens.splits.builder import ScreenSplitConfig, require_possible

LEAST_CELLS = 5
"""Cells below which the mean of a test condition is mostly noise."""
MOST_CONFOUNDED = 0.5
"""Share of test cells that may lie in batches without control cells to compare them with."""
USES = ("train", "validation", "test", "control_train", "control_validation", "control_test")
# The guide, replicate or plate behind a target. Bare digits are no mark: STAT1 and STAT3 are two genes.
_MARKED = re.compile(
    r"^(?P<stem>.+?)(?:[_. ]+(?:sg|g|guide|rep|replicate|plate|batch|lane|pool|r|p)?[_-]?\d+)$", re.IGNORECASE
)
_DASHED = re.compile(r"^(?P<stem>.+)-\d+$")
_GUIDE = re.compile(r"^(?P<stem>[A-Z0-9-]*[A-Z][A-Z0-9-]*)(?:sg|g|guide|rep)\d+$")


def check_split(screen: Screen, split: ScreenSplit) -> None:
    """Refuse a split under which a test score would be worth nothing.

    Raises
    ------
    UserError
        An empty or tiny test set; a cell in two uses; a control where perturbed cells belong, or the reverse; a test
        condition that trains or validates, also under another spelling (``B+A``, ``ctrl+A``, a guide or plate behind
        the label); a held-out gene in training; a stratum that claims more was seen than was; test cells without
        controls of their own context or batch.
    """
    where = f"split={split.kind} (seed {split.seed}) of {screen.source}"
    _check_uses(screen, split, where)
    _check_size(screen, split, where)
    _check_labels(screen.conditions, where)
    train = np.unique(screen.condition[split.train])
    rule: type[ScreenSplitConfig] = registry.splits[split.kind].schema
    if not rule.same_conditions:
        # what is chosen on validation knows its conditions too
        for use, rows in (("training", split.train), ("validation", split.validation)):
            known = np.unique(screen.condition[rows])
            _check_conditions(screen, split, known, use, where)
            _check_suffixes(screen, split, known, use, where)
    if rule.unseen_batches:
        shared = np.intersect1d(screen.batch[split.train], screen.batch[split.test])
        require(not len(shared), where, f"training and test share the batch {_names(screen.batches, shared)}")
    _check_strata(screen, split, train, where)
    if rule.unseen_genes:
        _check_genes(screen, split, train, where)
    _check_controls(screen, split, where)


def require_training_rows(split: ScreenSplit, rows: Rows, what: str) -> None:
    """Refuse to fit ``what`` (a selection, a PCA, a mean) on cells that are not for training.

    Raises
    ------
    UserError
        Some rows are neither in ``split.train`` nor in ``split.control_train``.
    """
    bad = np.setdiff1d(rows, np.concatenate([split.train, split.control_train]))
    if len(bad):
        n_test = len(np.intersect1d(bad, np.concatenate([split.test, split.control_test])))
        raise UserError(
            f"{what}: fitted on {len(bad)} cells that are not for training, {n_test} of them test cells; use "
            "split.train and split.control_train only"
        )


def _check_uses(screen: Screen, split: ScreenSplit, where: str) -> None:
    for first, second in combinations(USES, 2):
        shared = np.intersect1d(getattr(split, first), getattr(split, second))
        require(not len(shared), where, f"{len(shared)} cells are in both {first} and {second}; no cell has two uses")
    control = screen.is_control
    for use in USES:
        rows = getattr(split, use)
        wrong = int((control[rows] != use.startswith("control")).sum())
        what = "perturbed" if use.startswith("control") else "control"
        require(not wrong, where, f"{use} holds {wrong} {what} cells")


def _check_size(screen: Screen, split: ScreenSplit, where: str) -> None:
    for use in ("train", "test", "validation"):
        require_possible(len(getattr(split, use)) > 0, where, f"leaves no {use} cells")
    conditions, counts = np.unique(screen.condition[split.test], return_counts=True)
    small = conditions[counts < LEAST_CELLS]
    require_possible(
        not len(small),
        where,
        f"fewer than {LEAST_CELLS} test cells in {_condition_names(screen, small)}; raise conditions.min_cells",
    )


def _check_labels(conditions: Iterable[Condition], where: str) -> None:
    """Find two conditions that are one under two spellings, which a split would put on both sides."""
    seen: dict[tuple[frozenset[str], str, float | None], Condition] = {}
    for condition in conditions:
        acting = frozenset(t.strip() for t in condition.targets if not is_control_name(t))
        key = (acting, condition.context, condition.dose)
        require(
            key not in seen,
            where,
            f"{condition.name!r} and {seen.get(key, condition).name!r} are one condition; "
            "labels must be sorted and without controls",
        )
        seen[key] = condition


def _check_conditions(screen: Screen, split: ScreenSplit, known: Rows, use: str, where: str) -> None:
    shared = np.intersect1d(known, np.unique(screen.condition[split.test]))
    require(not len(shared), where, f"{_condition_names(screen, shared)} is in {use} and in the test")


def _check_suffixes(screen: Screen, split: ScreenSplit, known: Rows, use: str, where: str) -> None:
    """Find one perturbation under several labels, as ``STAT1g1`` and ``STAT1g2``, on two sides of the split."""
    measured = set(screen.features)
    every = {t for c in screen.conditions for t in c.targets}
    stems = {t: _stem(t, measured, every) for t in sorted(every)}
    others = {t for k in known for t in screen.conditions[k].targets}
    for k in np.unique(screen.condition[split.test]):
        for target in screen.conditions[k].targets:
            twins = sorted(t for t in others - {target} if stems[t] == stems[target])
            require(
                not twins,
                where,
                f"test target {target!r} and {use} target {twins[0] if twins else ''!r} look like guides or "
                f"replicates of one perturbation ({stems[target]}); remove the suffix with conditions.strip_suffix",
            )


def _stem(target: str, measured: set[str], every: set[str]) -> str:
    if target in measured:
        return target
    for pattern in (_MARKED, _GUIDE, _DASHED):
        found = pattern.match(target)
        if found is not None:
            stem = found["stem"]
            # A dash and a number also end names of genes (NKX2-1), so the stem must be one by itself.
            if pattern is not _DASHED or stem in measured or stem in every:
                return stem
    return target


def _check_genes(screen: Screen, split: ScreenSplit, train: Rows, where: str) -> None:
    """See that no more genes of a held-out condition are in training conditions than its stratum says."""
    trained = {screen.gene_of(t) for k in train for t in screen.conditions[k].targets}
    for k in np.unique(screen.condition[np.concatenate([split.test, split.validation])]):
        condition, stratum = screen.conditions[k], split.strata[int(k)]
        seen = {screen.gene_of(t) for t in condition.targets} & trained
        allowed = int(stratum.removeprefix("seen")) if stratum.startswith("seen") else 0
        require(
            len(seen) <= allowed,
            where,
            f"{listed(sorted(seen))} of the held-out condition {condition.name} ({stratum}) is in a training condition",
        )


def _check_strata(screen: Screen, split: ScreenSplit, train: Rows, where: str) -> None:
    for k in np.unique(screen.condition[np.concatenate([split.test, split.validation])]):
        require(int(k) in split.strata, where, f"{screen.conditions[k].name} has no stratum")
    trained = {screen.conditions[k] for k in train}
    tested = {screen.conditions[k] for k in np.unique(screen.condition[split.test])}
    for k in np.unique(screen.condition[split.test]):
        condition = screen.conditions[k]
        claimed = re.fullmatch(r"seen(\d+)", split.strata[int(k)])
        if claimed is None:
            continue
        singles = [Condition((t,), condition.context, condition.dose) for t in condition.targets]
        hidden = [c.name for c in singles if c in tested and c not in trained]
        require(
            len(condition.targets) - len(hidden) >= int(claimed[1]),
            where,
            f"the test combination {condition.name} is in the stratum {claimed[0]}, but {listed(hidden)} is a test "
            "condition: an additive model would read test cells",
        )


def _check_controls(screen: Screen, split: ScreenSplit, where: str) -> None:
    for use in ("validation", "test"):
        perturbed, control = getattr(split, use), getattr(split, f"control_{use}")
        contexts = np.array([c.context for c in screen.conditions], dtype=object)
        needed = set(contexts[np.unique(screen.condition[perturbed])])
        lacking = sorted(needed - set(contexts[np.unique(screen.condition[control])]))
        require_possible(
            not lacking, where, f"no control_{use} cells in {listed(c or 'the only context' for c in lacking)}"
        )
        have = set(_places(screen, control).tolist())
        apart = np.array([place not in have for place in _places(screen, perturbed).tolist()])
        require_possible(
            float(apart.mean()) <= MOST_CONFOUNDED,
            where,
            f"{int(apart.sum())} of {len(apart)} {use} cells lie in batches without control_{use} cells "
            f"({_one_armed(screen)}): differences between batches would pass for effects",
        )
    require_possible(
        len(split.control_train) > 0, where, "no control_train cells; every held-out context leaves nothing to train on"
    )


def _one_armed(screen: Screen) -> str:
    """Name the column of the batches, and those without controls."""
    with_controls = set(screen.batch[screen.is_control].tolist())
    lacking = [name for k, name in enumerate(screen.batches) if k not in with_controls]
    column = screen.columns.get("batch", "null")
    return f"conditions.batch={column}; {f'no controls in {listed(lacking, 4)}' if lacking else 'too few controls'}"


def _places(screen: Screen, rows: Rows) -> Rows:
    """Return a number for the (context, batch) of each cell."""
    contexts = {c: k for k, c in enumerate(sorted({c.context for c in screen.conditions}))}
    context = np.array([contexts[c.context] for c in screen.conditions], dtype=np.int64)[screen.condition[rows]]
    return np.asarray(context * len(screen.batches) + screen.batch[rows], dtype=np.int64)


def _names(names: tuple[str, ...], indices: Rows) -> str:
    return listed(names[k] for k in indices)


def _condition_names(screen: Screen, indices: Rows) -> str:
    return listed(screen.conditions[k].name for k in indices)
