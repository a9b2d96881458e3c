"""Small screens whose truth is known: effects are written into the means of counts, or into noise-free profiles."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.evaluate.counterfactual import ScoreConfig
from perturbrl.screens.schema import Condition, PerturbationTable, Screen, ScreenSplit

CONFIG = ScoreConfig(
    alpha=0.05,
    min_log_fold=0.25,
    min_cpm=5.0,
    n_top=50,
    n_components=20,
    max_cells=500,
    max_controls=1000,
    n_duplicates=2,
    seed=3,
)


def table_of(
    x: NDArray[np.float32] | sparse.csr_matrix,
    labels: list[Condition],
    train: set[Condition],
    test: set[Condition],
    validation: frozenset[Condition] = frozenset(),
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

    def rows(chosen: set[Condition] | frozenset[Condition]) -> NDArray[np.int64]:
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
        strata={index[c]: "single" for c in test},
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
