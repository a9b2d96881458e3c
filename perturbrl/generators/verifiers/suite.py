"""Several verifiers as one reward: each made comparable within its group, weighted, summed and clipped.

Letters: Q groups of candidates, each of one condition, with B candidates each; G genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from torch import Tensor

from perturbrl.bounds import NotEmpty, OneOf, PositiveFloat
from perturbrl.errors import UserError, require
from perturbrl.generators.training_cells import TrainingCells
from perturbrl.generators.verifiers.base import Verifier, make_verifier

FLAT = 1e-6
"""Spread of a verifier within a group, relative to its size, below which it does not tell candidates apart."""


@dataclass(frozen=True)
class SuiteConfig:
    """Which verifiers, and how they are combined; part of the config of what is trained by them.

    ``verifiers`` maps names to the settings that differ from ``conf/verifier/<name>.yaml``, such as
    ``{pearson_topk: {k: 5, weight: 2.0}, energy_witness: {}}``. ``normalise``: ``group`` divides by the standard
    deviation within the group of candidates, ``batch`` by that over all groups, each after the mean of the group has
    been subtracted; ``none`` does neither. ``clip`` limits the sum to [-clip, clip].
    """

    verifiers: Annotated[dict[str, Any], NotEmpty("{energy_witness: {}}")]
    normalise: Annotated[str, OneOf("group", "batch", "none")]
    clip: PositiveFloat


@dataclass(frozen=True, eq=False)
class Rewards:
    """``total`` [..., Q, B], and the score of each verifier as it gave it, [..., Q, B]."""

    total: Tensor
    scores: Mapping[str, Tensor]


class Suite:
    """Verifiers that are fitted together and paid out as one reward."""

    def __init__(self, verifiers: Sequence[Verifier], normalise: str, clip: float) -> None:
        self.verifiers, self.normalise, self.clip = tuple(verifiers), normalise, clip
        require(
            any(v.config.weight > 0 for v in verifiers), "verifiers", "none has a weight above 0; nothing is rewarded"
        )

    def fit(self, cells: TrainingCells) -> Self:
        """Fit all verifiers; errors as of ``Verifier.fit``."""
        for verifier in self.verifiers:
            verifier.fit(cells)
        return self

    def without_cells(self) -> Suite:
        """Return the verifiers that may score held-out conditions.

        Raises
        ------
        UserError
            None may.
        """
        able = [v for v in self.verifiers if not v.needs_cells]
        if not any(v.config.weight > 0 for v in able):
            names = ", ".join(v.name for v in self.verifiers)
            raise UserError(
                f"verifiers: none of {names} can score a condition without its cells; "
                "add plausibility, or pathway with reference=literature"
            )
        return Suite(able, self.normalise, self.clip)

    def rewards(self, x: Tensor, condition: Tensor) -> Rewards:
        """Score candidates [..., Q, B, G] of conditions [..., Q].

        The sum is divided by the root of the sum of squared weights: independent verifiers then give a reward of unit
        variance, however many there are. A verifier that does not apply to a condition is left out of its sum and of
        the divisor. A candidate that is not finite
        makes the rewards of its group NaN.

        Raises
        ------
        UserError
            A group of one candidate, which has nothing to be compared with; or as of ``Verifier.score``.
        """
        alone = self.normalise != "none" and x.shape[-2] < 2
        require(not alone, "verifiers", "a group of one candidate has no spread; use a group of at least 2")
        total = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
        squares = torch.zeros(condition.shape, dtype=x.dtype, device=x.device)
        scores: dict[str, Tensor] = {}
        for verifier in self.verifiers:
            score = verifier.score(x, condition)
            scores[verifier.name] = score
            weight = verifier.config.weight * verifier.applies(condition.reshape(-1)).reshape(condition.shape)
            share = weight[..., None] * _normalised(score, self.normalise, weight > 0)
            total = total + torch.where(weight[..., None] > 0, share, 0.0)
            squares = squares + weight.square()
        total = total / squares.clamp(min=1e-12).sqrt()[..., None]
        return Rewards(total.clamp(-self.clip, self.clip), scores)


def _normalised(score: Tensor, how: str, counted: Tensor) -> Tensor:
    """Return scores [..., Q, B] in comparable units; ``counted`` [..., Q] tells which groups are in use.

    With one run per leading index, ``batch`` takes the spread over the groups of that run alone.
    """
    if how == "none":
        return score
    centred = score - score.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    if how == "batch":
        used = counted[..., None]
        variance = torch.where(used, variance, 0.0).sum(-2, keepdim=True) / used.sum(-2, keepdim=True).clamp(min=1)
    least = (FLAT * score.abs().amax(-1, keepdim=True)).square() + 1e-24
    return torch.where(variance <= least, torch.zeros_like(centred), centred / variance.clamp(min=1e-30).sqrt())


def make_suite(config: SuiteConfig) -> Suite:
    """Return the verifiers of a config, not fitted; errors as of ``make_verifier``."""
    return Suite(
        [make_verifier(name, given) for name, given in config.verifiers.items()], config.normalise, config.clip
    )
