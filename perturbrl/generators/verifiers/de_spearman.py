"""``de_spearman``: whether the genes of a cell are changed in the order in which the condition changes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.bounds import Number
from perturbrl.config import require
from perturbrl.generators.training_cells import TrainingCells
from perturbrl.generators.verifiers.base import Verifier, VerifierConfig
from perturbrl.generators.verifiers.pearson_topk import unit


@dataclass(frozen=True)
class DESpearmanConfig(VerifierConfig):
    """Settings; see conf/verifier/de_spearman.yaml."""

    genes: Annotated[int, Number(least=2)]


@registry.verifiers.register("de_spearman", DESpearmanConfig)
class DESpearman(Verifier):
    """Spearman correlation of x - mu_c with the mean change of the condition, over its most changed genes.

    Those genes are fixed: the largest |mean change| over training cells. Equal values have their mean rank.
    """

    differentiable = False

    def __init__(self, config: DESpearmanConfig) -> None:
        super().__init__(config)
        self._n = config.genes

    def _fit(self, cells: TrainingCells) -> None:
        most = len(cells.genes)
        require(self._n <= most, f"{self.key}.genes", f"{self._n}, but there are {most} genes; give at most {most}")
        change = cells.means() - cells.mean_control[cells.context]
        self._genes = change.abs().nan_to_num().topk(self._n, dim=1).indices
        self._ranks = unit(ranks(change.gather(1, self._genes)))

    def _score(self, x: Tensor, condition: Tensor) -> Tensor:
        columns = self._genes[condition].unsqueeze(1).expand(-1, x.shape[1], -1)
        order = unit(ranks((x - self.control(condition)).gather(2, columns)))
        return (order * self._ranks[condition].unsqueeze(1)).sum(-1)


def ranks(values: Tensor) -> Tensor:
    """Return the ranks 1 to n over the last axis, the mean rank for equal values; NaN where a row has a NaN."""
    values = values.contiguous()
    ordered = values.sort(dim=-1).values
    below = torch.searchsorted(ordered, values, right=False)
    upto = torch.searchsorted(ordered, values, right=True)
    spoilt = values.isnan().any(dim=-1, keepdim=True)
    return ((below + upto + 1) / 2).masked_fill(spoilt, torch.nan)
