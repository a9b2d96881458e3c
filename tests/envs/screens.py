"""A small screen whose effects are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from perturbrl.screens.schema import Condition, PerturbationTable, Screen, ScreenSplit

TRAIN, VALIDATION, TEST = ("A", "B", "C", "A+B", "D", "A+C"), ("E",), ("F", "A+F")


def screen_table(genes: int = 12, cells: int = 24, noise: float = 0.3, seed: int = 0, contexts=("",)):
    """``cells`` cells of each condition and four times as many controls; effects of targets add up."""
    rng = np.random.default_rng(seed)
    targets = sorted({t for names in (TRAIN, VALIDATION, TEST) for name in names for t in name.split("+")})
    effects = {t: rng.normal(0, 1, genes) * (rng.random(genes) < 0.5) for t in targets}
    names = ("", *TRAIN, *VALIDATION, *TEST)
    conditions = sorted(Condition(tuple(n.split("+")) if n else (), c) for n in names for c in contexts)
    x, label = [], []
    for i, condition in enumerate(conditions):
        n = 4 * cells if condition.is_control else cells
        shift = sum((effects[t] for t in condition.targets), np.zeros(genes)) + 2 * contexts.index(condition.context)
        x.append(4 + shift + noise * rng.normal(size=(n, genes)))
        label += [i] * n
    condition = np.array(label)
    part = np.array([_part("+".join(c.targets)) for c in conditions])[condition]
    is_control = part == "control"
    of_control = np.cumsum(is_control) % 4
    rows = {
        "control_train": is_control & (of_control < 2),
        "control_validation": is_control & (of_control == 2),
        "control_test": is_control & (of_control == 3),
        **{name: part == name for name in ("train", "validation", "test")},
    }
    screen = Screen(
        x=sparse.csr_matrix(np.concatenate(x).astype(np.float32)),
        features=tuple(f"g{i}" for i in range(genes)),
        slices={"rna": slice(0, genes)},
        condition=condition,
        conditions=tuple(conditions),
        batch=np.zeros(len(condition), dtype=np.int64),
        batches=("",),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(len(condition))]),
        source="made-up",
        checksum="0",
    )
    split = ScreenSplit(
        kind="unseen_single",
        seed=0,
        strata={i: "single" for i, c in enumerate(conditions) if _part("+".join(c.targets)) in ("validation", "test")},
        sha256="0" * 64,
        **{name: np.flatnonzero(mask) for name, mask in rows.items()},
    )
    one_hot = np.array([[float(t in c.targets) for t in targets] for c in conditions], dtype=np.float32)
    where = np.array([[float(c.context == k) for k in contexts] for c in conditions], dtype=np.float32)
    seen = np.isin(np.arange(len(conditions)), condition[split.train])
    return PerturbationTable(screen, split, one_hot, where, seen)


def _part(name: str) -> str:
    parts = {"train": TRAIN, "validation": VALIDATION, "test": TEST, "control": ("",)}
    return next(part for part, names in parts.items() if name in names)
