"""What a model is told of a condition: which perturbation, in which context, at which dose; fitted on training cells.

Letters: P conditions, K numbers of a description, C covariates, G genes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from perturbrl.bounds import NotEmpty, OneOf, PositiveInt
from perturbrl.config import require
from perturbrl.screens.genes import gene_embedding, training_rows
from perturbrl.screens.prior import read_prior
from perturbrl.screens.schema import PerturbationTable, Screen, ScreenSplit

Block = NDArray[np.float64]
NAMES = ("gene_embedding", "one_hot", "prior", "dose")


@dataclass(frozen=True)
class DescriptionConfig:
    """What ``conf/description/*.yaml`` holds; the YAML says what each key means."""

    name: str
    kinds: Annotated[list[Annotated[str, OneOf(*NAMES)]], NotEmpty("[one_hot]")]
    components: PositiveInt
    scale: bool
    prior: str | None
    prior_components: PositiveInt
    prior_keep: dict[str, list[str]]

    def check(self, where: str) -> None:
        """Raise ``UserError`` for a kind named twice, or a prior without a file."""
        require(len(set(self.kinds)) == len(self.kinds), f"{where}.kinds", f"{self.kinds} names a kind twice")
        lacking = "prior" in self.kinds and self.prior is None
        require(not lacking, f"{where}.prior", "no file; the kind prior needs a .gmt, .csv or .tsv")


def describe(screen: Screen, split: ScreenSplit, config: DescriptionConfig) -> PerturbationTable:
    """Return the screen and its split with a description [P, K] and covariates [P, C] of each condition.

    A combination is described by the sum over its targets. With ``scale`` the numbers of a kind are divided by the root
    of their mean square over training targets, so that kinds weigh alike. Covariates: which of the contexts seen in
    training (all zero for another one; none where there is one context), and log(1 + dose) where there are doses.

    Raises
    ------
    UserError
        A prior file that cannot be used.
    """
    targets = sorted({t for c in screen.conditions for t in c.targets})
    trained = _trained_targets(screen, split)
    blocks, leaks = [], list(split.leaks)
    for kind in config.kinds:
        if kind == "dose":
            blocks.append(_doses(screen))
            continue
        numbers = KINDS[kind](screen, split, config, targets, trained)
        if config.scale and kind != "one_hot":
            numbers = _scaled(numbers, np.array([t in trained for t in targets]))
        blocks.append(_summed(screen, targets, numbers))
        if kind == "prior":
            leaks.append(f"descriptions read the prior file {config.prior}, which may know of the test conditions")
    return PerturbationTable(
        screen=screen,
        split=split,
        description=np.concatenate(blocks, axis=1).astype(np.float32),
        covariates=_covariates(screen, split).astype(np.float32),
        seen=np.isin(np.arange(len(screen.conditions)), screen.condition[training_rows(split)]),
        leaks=tuple(leaks),
    )


def _embedded(
    screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str], trained: set[str]
) -> Block:
    """Return the embedding of each target's gene, times its sign, and 1 where the gene is not measured: [T, K + 1]."""
    scores = gene_embedding(screen, split, config.components)
    column = {name: k for k, name in enumerate(screen.features)}
    out = np.zeros((len(targets), scores.shape[1] + 1))
    for row, target in enumerate(targets):
        k = column.get(screen.gene_of(target))
        if k is None:
            out[row, -1] = 1.0
        else:
            out[row, :-1] = screen.sign_of(target) * scores[k]
    return out


def _one_hot(
    screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str], trained: set[str]
) -> Block:
    """Return one column for each target seen in training, [T, S]; an unseen target has none."""
    seen = sorted(trained)
    return np.array([[float(t == s) for s in seen] for t in targets]).reshape(len(targets), len(seen))


def _from_prior(
    screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str], trained: set[str]
) -> Block:
    """Return the scores of each target's gene in the prior, times its sign, and 1 where it is not there: [T, K + 1]."""
    assert config.prior is not None
    prior = read_prior(config.prior, config.prior_components, config.prior_keep)
    out = np.zeros((len(targets), prior.scores.shape[1] + 1))
    for row, target in enumerate(targets):
        found = prior.of(screen.gene_of(target))
        if found is None:
            out[row, -1] = 1.0
        else:
            out[row, :-1] = screen.sign_of(target) * found
    missing = int(out[:, -1].sum())
    require(missing < len(targets), "description.prior", f"none of the {missing} targets is in {config.prior}")
    return out


KINDS: dict[str, Callable[[Screen, ScreenSplit, DescriptionConfig, list[str], set[str]], Block]] = {
    "gene_embedding": _embedded,
    "one_hot": _one_hot,
    "prior": _from_prior,
}


def _trained_targets(screen: Screen, split: ScreenSplit) -> set[str]:
    return {t for k in np.unique(screen.condition[split.train]) for t in screen.conditions[k].targets}


def _scaled(numbers: Block, trained: NDArray[np.bool_]) -> Block:
    """Divide by one number, the root mean square over training targets; the last column, a flag, stays as it is."""
    size = float(np.sqrt(np.mean(numbers[trained, :-1] ** 2))) if trained.any() else 0.0
    return np.concatenate([numbers[:, :-1] / (size if size > 0 else 1.0), numbers[:, -1:]], axis=1)


def _summed(screen: Screen, targets: list[str], numbers: Block) -> Block:
    row = {t: k for k, t in enumerate(targets)}
    out = np.zeros((len(screen.conditions), numbers.shape[1]))
    for p, condition in enumerate(screen.conditions):
        for target in condition.targets:
            out[p] += numbers[row[target]]
    return out


def _doses(screen: Screen) -> Block:
    return np.log1p([[c.dose or 0.0] for c in screen.conditions])


def _covariates(screen: Screen, split: ScreenSplit) -> Block:
    every = {c.context for c in screen.conditions}
    trained = sorted({screen.conditions[k].context for k in np.unique(screen.condition[training_rows(split)])})
    names = trained if len(every) > 1 else []
    context = np.array([[float(c.context == n) for n in names] for c in screen.conditions])
    dosed = any(c.dose is not None for c in screen.conditions)
    blocks = [context.reshape(len(screen.conditions), len(names)), *([_doses(screen)] if dosed else [])]
    return np.concatenate(blocks, axis=1)
