"""What every verifier has: settings, a fit on training cells, scores of candidates, and what it may not score.

Letters: Q groups of candidates, each of one condition, with B candidates each; G genes, M real cells of a condition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import torch
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import registry
from perturbrl.bounds import NonNegativeFloat, Number
from perturbrl.config import bind, choice
from perturbrl.errors import UserError, require
from perturbrl.generators.training_cells import TrainingCells

BLOCK = 2**24
"""Numbers of candidates and real cells that are alive at a time; groups beyond that wait."""
TopK = Annotated[int, Number(least=1, most=10_000)]


@dataclass(frozen=True)
class VerifierConfig:
    """What every ``conf/verifier/*.yaml`` holds: ``weight`` is the share in a sum of verifiers."""

    name: str
    weight: NonNegativeFloat


class Verifier(ABC):
    """Scores cells: the more, the better.

    ``needs_cells`` says whether the score of a condition reads real cells of it. Such a verifier refuses a condition
    without training cells, so that no score of a held-out condition can come from its own cells. ``needs_controls``
    says whether it reads the mean control of the condition's context. ``least_group`` is the smallest group that can be
    scored. ``differentiable`` says whether the score has a useful gradient with respect to the cell.
    """

    needs_cells: bool = True
    needs_controls: bool = True
    least_group: ClassVar[int] = 1
    differentiable: ClassVar[bool] = True
    cells_compared: int = 0

    def __init__(self, config: VerifierConfig) -> None:
        self.config = config
        self._cells: TrainingCells | None = None

    @property
    def name(self) -> str:
        """The name in the registry."""
        return self.config.name

    @property
    def key(self) -> str:
        """What messages on its settings start with."""
        return f"verifier.{self.name}"

    @property
    def cells(self) -> TrainingCells:
        """The cells that it is fitted on."""
        assert self._cells is not None, f"{self.key} is not fitted"
        return self._cells

    def fit(self, cells: TrainingCells) -> Self:
        """Read everything that scores need from training cells; return the verifier.

        Raises
        ------
        UserError
            The settings do not suit these cells.
        """
        require(len(cells.perturbed) > 0, self.key, "no perturbed training cells to be fitted on")
        self._cells = cells
        self._fit(cells)
        return self

    def score(self, x: Tensor, condition: Tensor) -> Tensor:
        """Score candidates.

        Parameters
        ----------
        x
            Candidates [..., Q, B, G]; the B of a group share control context and condition.
        condition
            Index [..., Q] int64 of each group's condition.

        Returns
        -------
        Tensor
            Scores [..., Q, B]; NaN for all of a group to which the verifier does not apply (``applies``).

        Raises
        ------
        UserError
            A condition has no training cells and the verifier needs them, or its context has no training controls, or
            a group is too small.
        """
        self.admit(condition)
        size, genes = x.shape[-2:]
        require(
            genes == len(self.cells.genes), self.key, f"{genes} genes, but it was fitted on {len(self.cells.genes)}"
        )
        require(
            size >= self.least_group,
            self.key,
            f"a group of {size} candidate cannot be scored; it compares candidates, give at least {self.least_group}",
        )
        groups, which = x.reshape(-1, size, genes), condition.reshape(-1)
        at_once = max(1, BLOCK // ((size + self.cells_compared) * genes))
        parts = zip(torch.split(groups, at_once), torch.split(which, at_once), strict=True)
        scores = torch.cat([self._score(part, label) for part, label in parts])
        return torch.where(self.applies(which)[:, None], scores, torch.nan).reshape(x.shape[:-1])

    def admit(self, condition: Tensor) -> None:
        """Raise ``UserError`` for the first of the conditions that the verifier may not score."""
        cells, labels = self.cells, condition.reshape(-1)
        if self.needs_cells:
            self._refuse(
                labels[~torch.isin(labels, cells.perturbed)],
                "has no training cells, and this verifier compares with real cells of the condition; "
                "held-out conditions can only be scored by verifiers that need none",
            )
        if self.needs_controls:
            without = torch.tensor([len(rows) == 0 for rows in cells.controls], device=labels.device)
            self._refuse(labels[without[cells.context[labels]]], "has no training control cells in its context")

    def _refuse(self, labels: Tensor, reason: str) -> None:
        if len(labels):
            raise UserError(f"{self.key}: condition {self.cells.names[int(labels[0])]!r} {reason}")

    def applies(self, condition: Tensor) -> Tensor:
        """Return for which of the conditions [Q] there is something to compare with, bool [Q]."""
        return torch.ones_like(condition, dtype=torch.bool)

    def control(self, condition: Tensor) -> Tensor:
        """Return the mean control of each condition's context [Q, 1, G]."""
        return self.cells.mean_control[self.cells.context[condition]].unsqueeze(1)

    @abstractmethod
    def _fit(self, cells: TrainingCells) -> None:
        """As ``fit``."""

    @abstractmethod
    def _score(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the scores [Q, B] of candidates [Q, B, G] of conditions [Q] that may be scored."""


class RealCells:
    """At most ``most`` real cells of each condition, in the coordinates ``x`` [N, K]."""

    def __init__(self, cells: TrainingCells, x: Tensor, most: int) -> None:
        self.x = x
        self.rows, self.n = cells.spread(most)

    def of(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return cells [Q, M, K] of each condition, and which of them count, bool [Q, 1, M]."""
        rows = self.rows[condition]
        counted = torch.arange(rows.shape[1], device=rows.device) < self.n[condition][:, None]
        return self.x[rows], counted.unsqueeze(1)


def require_cells(k: int, cells: TrainingCells, key: str) -> None:
    """Raise ``UserError`` if a perturbed training condition has fewer than ``k`` cells."""
    counts = cells.counts[cells.perturbed]
    least = int(counts.min())
    name = cells.names[int(cells.perturbed[counts.argmin()])]
    require(k <= least, key, f"{k}, but condition {name!r} has {least} training cells; give at most {least}")


def make_verifier(name: str, settings: Mapping[str, Any] | None = None) -> Verifier:
    """Return the verifier ``name``, not fitted.

    Parameters
    ----------
    name
        An entry of ``registry.verifiers``.
    settings
        Values that take the place of those in ``conf/verifier/<name>.yaml``.

    Raises
    ------
    UserError
        No such verifier, or a setting is unknown or wrong.
    """
    choice(name, registry.verifiers, "verifier")
    node = OmegaConf.merge(registry.verifiers.defaults(name), dict(settings or {}))
    config = bind(registry.verifiers[name].schema, node, f"verifier.{name}")
    verifier: Verifier = registry.verifiers[name].build(config)
    return verifier
