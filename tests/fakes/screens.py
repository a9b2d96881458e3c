"""Fake screens: raw counts as a file would hold them, and tables whose true effects are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.data.schema import Modality, RawCells
from perturbrl.screens.load import load_screen
from perturbrl.screens.schema import Condition, PerturbationTable, Screen, ScreenSplit
from perturbrl.screens.split import split_screen

from .configs import conditions_config, data_config, split_config

GENES = tuple(f"G{k}" for k in range(12))
SINGLES = GENES[:8]
PAIRS = ("G0+G1", "G1+G2", "G2+G3", "G3+G4", "G4+G5", "G5+G6", "G6+G7", "G0+G7")
TRAIN, VALIDATION, TEST = ("A", "B", "C", "A+B", "D", "A+C"), ("E",), ("F", "A+F")  # of ``additive``


def made_raw(
    labels: Sequence[str] = (*SINGLES, *PAIRS),
    n: int = 24,
    n_control: int = 48,
    contexts: Sequence[str] = ("",),
    doses: Sequence[float] | None = None,
    batches: Sequence[str] = ("b1", "b2"),
    seed: int = 0,
) -> RawCells:
    """Counts of 12 genes: control and each label, in each context and at each dose, in shuffled order."""
    rng = np.random.default_rng(seed)
    rows = [
        {"perturbation": label, "line": context, "amount": dose}
        for context in contexts
        for label in ("control", *labels)
        for dose in ([0.0] if label == "control" or doses is None else doses)
        for _ in range(n_control if label == "control" else n)
    ]
    obs = pd.DataFrame(rows).sample(frac=1.0, random_state=seed).reset_index(drop=True)
    obs["batch"] = rng.permutation(np.resize(np.array(batches, dtype=object), len(obs)))
    obs.index = pd.Index([f"cell{k}" for k in range(len(obs))], dtype=object)
    level = np.full((len(obs), len(GENES)), 6.0) + np.arange(len(GENES))
    for k, gene in enumerate(GENES):
        hit = obs["perturbation"].str.split("+").map(lambda parts, gene=gene: gene in parts).to_numpy()
        level[hit, k] *= 0.2
        level[hit, (k + 5) % len(GENES)] *= 1.0 + 0.5 * (1.0 + obs["amount"].to_numpy(dtype=float)[hit])
    for number, context in enumerate(contexts):
        level[obs["line"].to_numpy() == context, -1] += 3.0 * number
    counts = sparse.csr_matrix(rng.poisson(level).astype(np.float32))
    return RawCells("made", {"rna": Modality(counts, np.array(GENES), "counts")}, obs, "0" * 64)


def made_screen(raw: RawCells | None = None, **changes: Any) -> Screen:
    return load_screen(raw or made_raw(), data_config(), conditions_config(**changes))


def made_split(screen: Screen, kind: str = "combinations", **changes: Any) -> ScreenSplit:
    return split_screen(screen, split_config(kind, **changes))


def names(screen: Screen, rows: Any) -> set[str]:
    """Names of the conditions of rows."""
    return {screen.conditions[k].name for k in np.unique(screen.condition[rows])}


def replaced(split: ScreenSplit, **changes: Any) -> ScreenSplit:
    return dataclasses.replace(split, **{k: np.sort(v) if isinstance(v, np.ndarray) else v for k, v in changes.items()})


def table_of(
    x: NDArray[np.float32] | sparse.csr_matrix,
    labels: list[Condition],
    train: Collection[Condition],
    test: Collection[Condition],
    validation: Collection[Condition] = (),
    description: NDArray[np.float32] | None = None,
    features: list[str] | None = None,
) -> PerturbationTable:
    """A table of cells [N, G] labelled by condition; of the controls of a context half train, a quarter validates."""
    conditions = tuple(sorted(set(labels), key=lambda c: (c.targets, c.context, c.dose or 0.0)))
    index = {c: i for i, c in enumerate(conditions)}
    condition = np.array([index[label] for label in labels])
    control = np.array([c.is_control for c in conditions])[condition]
    quarter = np.zeros(len(labels), dtype=int)
    for k in np.unique(condition):
        own = np.flatnonzero(condition == k)
        quarter[own] = np.arange(len(own)) % 4

    def rows(chosen: Collection[Condition]) -> NDArray[np.int64]:
        return np.flatnonzero(np.isin(condition, [index[c] for c in chosen]))

    x = sparse.csr_matrix(x, dtype=np.float32)
    names = features or [f"g{i}" for i in range(x.shape[1])]
    screen = Screen(
        x=x,
        features=tuple(names),
        slices={"rna": slice(0, x.shape[1])},
        condition=condition,
        conditions=conditions,
        batch=np.zeros(len(labels), dtype=np.int64),
        batches=("",),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(len(labels))]),
        source="made",
        checksum="",
    )
    split = ScreenSplit(
        kind="unseen_single",
        seed=0,
        train=rows(train),
        validation=rows(validation),
        test=rows(test),
        control_train=np.flatnonzero(control & (quarter < 2)),
        control_validation=np.flatnonzero(control & (quarter == 2)),
        control_test=np.flatnonzero(control & (quarter == 3)),
        strata={index[c]: "single" for c in (*validation, *test)},
        sha256="",
    )
    described = np.zeros((len(conditions), 1), np.float32) if description is None else description
    contexts = sorted({c.context for c in conditions})
    covariates = np.array([[c.context == n for n in contexts] for c in conditions], dtype=np.float32)
    seen = np.isin(np.arange(len(conditions)), condition[split.train])
    return PerturbationTable(screen, split, described, covariates, seen)


def exact(
    n_genes: int = 60,
    n_singles: int = 8,
    n_doubles: int = 6,
    cells: int = 4,
    seed: int = 0,
    contexts: tuple[str, ...] = ("",),
    additive: bool = True,
) -> PerturbationTable:
    """Noise-free cells: all of a condition are its mean; doubles are sums of singles, and are the test set."""
    rng = np.random.default_rng(seed)
    labels, x = [], []
    train, test = set(), set()
    for context in contexts:
        base = rng.uniform(2.0, 4.0, n_genes)
        single = rng.normal(0.0, 0.3, (n_singles, n_genes)) + rng.normal(0.0, 0.1, n_genes)
        profiles = {Condition((), context): base}
        for i in range(n_singles):
            profiles[Condition((f"g{i}",), context)] = base + single[i]
            train.add(Condition((f"g{i}",), context))
        for _ in range(n_doubles):
            a, b = sorted(rng.choice(n_singles, 2, replace=False).tolist())
            double = Condition((f"g{a}", f"g{b}"), context)
            interaction = 0.0 if additive else rng.normal(0.0, 0.3, n_genes)
            profiles[double] = base + single[a] + single[b] + interaction
            test.add(double)
        for condition, profile in profiles.items():
            n = 4 * cells if condition.is_control else cells
            labels += [condition] * n
            x += [profile] * n
    return table_of(np.array(x, dtype=np.float32), labels, train, test)


def noisy(
    n_genes: int = 200,
    n_conditions: int = 24,
    cells: int = 80,
    shift: float = 0.0,
    strength: float = 0.5,
    seed: int = 0,
    n_validation: int = 4,
    context: str = "",
) -> PerturbationTable:
    """Log-normalised counts: each condition moves a tenth of the genes, all share ``shift`` on a fifth of them.

    Targets are g0, g1, ...; half of the conditions are the test set. Descriptions are drawn, effects depend on them.
    """
    rng = np.random.default_rng(seed)
    base = rng.gamma(2.0, 1.0, n_genes) + 0.2
    common = np.where(np.arange(n_genes) % 5 == 0, shift, 0.0)
    described = rng.normal(size=(n_conditions + 1, 4)).astype(np.float32)
    described[0] = 0
    loading = rng.normal(size=(4, n_genes)) * (rng.random((4, n_genes)) < 0.1) * strength
    control = Condition((), context)
    named = [control, *sorted(Condition((f"g{i}",), context) for i in range(n_conditions))]
    labels, x = [], []
    for k, condition in enumerate(named):
        n = 8 * cells if condition.is_control else cells
        mean = base * np.exp((0.0 if condition.is_control else common) + described[k] @ loading)
        depth = rng.lognormal(0.0, 0.2, (n, 1))
        counts = rng.poisson(mean * depth)
        x.append(np.log1p(1e4 / n_genes * 10 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)))
        labels += [condition] * n
    perturbed = named[1:]
    half = n_conditions // 2
    validation = frozenset(perturbed[half - n_validation : half])
    train, test = set(perturbed[: half - n_validation]), set(perturbed[half:])
    return table_of(np.vstack(x).astype(np.float32), labels, train, test, validation, described)


def additive(
    genes: int = 12, cells: int = 24, noise: float = 0.3, seed: int = 0, contexts: Sequence[str] = ("",)
) -> PerturbationTable:
    """``cells`` cells of each condition and four times as many controls; effects of targets add up."""
    rng = np.random.default_rng(seed)
    targets = sorted({target for name in (*TRAIN, *VALIDATION, *TEST) for target in name.split("+")})
    effects = {t: rng.normal(0, 1, genes) * (rng.random(genes) < 0.5) for t in targets}
    names = ("", *TRAIN, *VALIDATION, *TEST)
    conditions = sorted(Condition(tuple(n.split("+")) if n else (), c) for n in names for c in contexts)
    x, labels = [], []
    for condition in conditions:
        n = 4 * cells if condition.is_control else cells
        shift = sum((effects[t] for t in condition.targets), np.zeros(genes)) + 2 * contexts.index(condition.context)
        x.append(4 + shift + noise * rng.normal(size=(n, genes)))
        labels += [condition] * n
    train, validation, test = (
        {c for c in conditions if "+".join(c.targets) in part} for part in (TRAIN, VALIDATION, TEST)
    )
    one_hot = np.array([[float(t in c.targets) for t in targets] for c in conditions], dtype=np.float32)
    return table_of(np.concatenate(x).astype(np.float32), labels, train, test, validation, one_hot)


INDUCED = ("IFIT1", "IFIT3", "RSAD2", "OASL", "ISG15", "CXCL10")
"""Genes of ``interferon`` that its controls hardly express, the first two not at all."""


def interferon(
    n_genes: int = 400,
    cells: int = 60,
    conditions: Sequence[str] = ("IFNB",),
    contexts: Sequence[str] = ("",),
    seed: int = 0,
) -> PerturbationTable:
    """Sparse log-normalised counts of about 2000 a cell: ctrl/stim, where a perturbation induces what controls lack.

    A tenth of the other genes moves by up to a factor of four, most of them up. One more perturbation, ``train``, is
    the training set.
    """
    rng = np.random.default_rng(seed)
    base = rng.lognormal(0.0, 1.5, n_genes)
    base[: len(INDUCED)] = 0.0, 0.0, 1e-3, 2e-3, 0.02, 0.05
    base *= 2000 / base.sum()
    base[: len(INDUCED)] = 0.0, 0.0, 1e-3, 2e-3, 0.02, 0.05
    x, labels = [], []
    named = [
        Condition(names, context) for context in contexts for names in ((), ("train",), *((n,) for n in conditions))
    ]
    for condition in named:
        mean = base.copy()
        if not condition.is_control:
            moved = np.flatnonzero(rng.random(n_genes) < 0.1)
            mean[moved] *= np.exp(rng.uniform(-0.7, 1.4, len(moved)))
            mean[: len(INDUCED)] += rng.uniform(0.5, 20.0, len(INDUCED))
        n = 12 * cells if condition.is_control else cells
        depth = rng.lognormal(0.0, 0.4, (n, 1))
        counts = rng.poisson(mean * depth * rng.gamma(4.0, 0.25, (n, n_genes)))
        x.append(np.log1p(1e4 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)))
        labels += [condition] * n
    train = {c for c in named if c.targets == ("train",)}
    test = {c for c in named if c.targets and c not in train}
    features = [*INDUCED, *(f"g{i}" for i in range(n_genes - len(INDUCED)))]
    return table_of(np.vstack(x).astype(np.float32), labels, train, test, features=features)
