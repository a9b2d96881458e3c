"""``pathway``: whether the pathways of a cell respond as those of the condition are known to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from perturbrl import registry
from perturbrl.bounds import OneOf, PositiveInt
from perturbrl.config import require
from perturbrl.generators.training_cells import TrainingCells
from perturbrl.generators.verifiers.base import Verifier, VerifierConfig
from perturbrl.generators.verifiers.space import project
from perturbrl.generators.verifiers.weights import expected_signs, matrix, read_table, regulons


@dataclass(frozen=True)
class PathwayConfig(VerifierConfig):
    """Settings; see conf/verifier/pathway.yaml."""

    which: Annotated[str, OneOf("file", "regulons")]
    weights: str | None
    landscape: dict[str, Any]
    reference: Annotated[str, OneOf("training", "literature")]
    signs: str | None
    least_genes: PositiveInt

    def check(self, where: str) -> None:
        """Raise ``UserError`` for a missing file."""
        lacking = self.which == "file" and self.weights is None
        wanted = "no file; which=file needs a table of columns gene, pathway, weight, such as PROGENy's"
        require(not lacking, f"{where}.weights", wanted)
        lacking = self.reference == "literature" and self.signs is None
        wanted = "no file; reference=literature needs a table of columns target, pathway, sign (-1, 0 or 1)"
        require(not lacking, f"{where}.signs", wanted)


@registry.verifiers.register("pathway", PathwayConfig)
class Pathway(Verifier):
    """Cosine of the response a(x) - a(mu_c) of K pathways with that expected of the condition.

    Activities a are fixed linear sums of genes, as PROGENy's (Schubert et al. 2018), in units of their standard
    deviation over training controls. Expected is the mean response of the condition's training cells
    (``reference=training``), or the signs that a file names (``literature``), over pathways that it names for the
    condition's targets: then no cell of the condition is read, so held-out conditions can be scored. A condition
    without any sign is not scored (NaN).
    """

    def __init__(self, config: PathwayConfig) -> None:
        super().__init__(config)
        self._config = config
        self.needs_cells = config.reference == "training"

    def _fit(self, cells: TrainingCells) -> None:
        c, device = self._config, cells.x.device
        if c.which == "file":
            assert c.weights is not None
            table = read_table(c.weights, ("gene", "pathway", "weight"), f"{self.key}.weights")
            where = f"{self.key}.weights={c.weights}"
        else:
            table, where = regulons(c.landscape, f"{self.key}.landscape"), f"{self.key}.which=regulons"
        self._coverage, weights = matrix(table, cells.genes, c.least_genes, where)
        weights = weights.to(device)
        rows = torch.cat(cells.controls)
        require(len(rows) > 1, self.key, "needs at least two training control cells, for the scale of activities")
        centred = cells.x[rows] - cells.mean_control[cells.context[cells.condition[rows]]]
        scale = (centred @ weights).double().square().mean(0).sqrt().to(weights.dtype)
        self._weights = weights / scale.clamp(min=1e-6)
        if c.reference == "training":
            expected = (cells.means() - cells.mean_control[cells.context]) @ self._weights
            counted = torch.ones_like(expected, dtype=torch.bool)
        else:
            assert c.signs is not None
            expected, counted = self._literature(c.signs, cells, device)
        self._expected, self._counted = expected, counted

    def _literature(self, file: str, cells: TrainingCells, device: torch.device) -> tuple[Tensor, Tensor]:
        where = f"{self.key}.signs"
        signs = read_table(file, ("target", "pathway", "sign"), where)
        wrong = signs.index[~signs["sign"].isin([-1.0, 0.0, 1.0])]
        require(len(wrong) == 0, f"{where}={file}", f"row {[*wrong, 0][0] + 2}: a sign must be -1, 0 or 1")
        kept = tuple(self._coverage.loc[self._coverage["kept"], "pathway"])
        expected, counted = expected_signs(signs, cells.targets, kept)
        require(bool(expected.any()), f"{where}={file}", "no sign for a target of this screen and a pathway in use")
        return expected.to(device), counted.to(device)

    def coverage(self) -> pd.DataFrame:
        """Return one row for each pathway: pathway, genes (with a weight), measured, kept."""
        return self._coverage

    def applies(self, condition: Tensor) -> Tensor:
        """See ``Verifier``: conditions with an expected response."""
        return self._expected[condition].nan_to_num().ne(0).any(-1)

    def _score(self, x: Tensor, condition: Tensor) -> Tensor:
        response = project(x - self.control(condition), self._weights) * self._counted[condition].unsqueeze(1)
        return cosine_similarity(response, self._expected[condition].unsqueeze(1), dim=-1)
