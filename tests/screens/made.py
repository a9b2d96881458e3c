"""Small made-up screens, and the configs of conf/ for them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy import sparse

from perturbrl import paths, registry
from perturbrl.config import bind
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.schema import Modality, RawCells
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.describe import DescriptionConfig
from perturbrl.screens.load import load_screen
from perturbrl.screens.schema import Screen, ScreenSplit
from perturbrl.screens.split import split_screen
from perturbrl.screens.splits.builder import ScreenSplitConfig

GENES = tuple(f"G{k}" for k in range(12))
SINGLES = GENES[:8]
PAIRS = ("G0+G1", "G1+G2", "G2+G3", "G3+G4", "G4+G5", "G5+G6", "G6+G7", "G0+G7")


@functools.cache  # composing takes a tenth of a second
def _composed(*overrides: str) -> Any:
    with initialize_config_dir(str(paths.conf_dir()), version_base=None):
        return compose(overrides=list(overrides))


def _changed(node: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """A group of conf/ with some keys replaced, to be bound: changed values are checked like any others."""
    return {**OmegaConf.to_container(node, resolve=True), **changes}


def data_config(choice: str = "rna", **changes: Any) -> DataConfig:
    return bind(DataConfig, _changed(_composed(f"+data={choice}").data, changes), "data")


def conditions_config(choice: str = "auto", **changes: Any) -> ConditionsConfig:
    node = _composed(f"+conditions={choice}").conditions
    return bind(ConditionsConfig, _changed(node, changes), "conditions")


def split_config(choice: str, **changes: Any) -> ScreenSplitConfig:
    config = registry.splits.bind(_changed(_composed(f"+split={choice}").split, changes))
    assert isinstance(config, ScreenSplitConfig)
    return config


def description_config(**changes: Any) -> DescriptionConfig:
    node = _composed("+description=default").description
    return bind(DescriptionConfig, _changed(node, changes), "description")


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
