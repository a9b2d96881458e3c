"""``protocol=paper`` as training and ``perturbrl evaluate`` use it. Letters: S runs, G features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perturbrl import paths, registry
from perturbrl.config import require
from perturbrl.data.schema import CellTable
from perturbrl.data.split import SplitConfig
from perturbrl.evaluate.actions import Act, PopulationAct
from perturbrl.evaluate.files import write_evaluation
from perturbrl.evaluate.paper.config import PaperProtocolConfig
from perturbrl.evaluate.paper.files import feature_table, summarise
from perturbrl.evaluate.paper.rows import PaperRows
from perturbrl.evaluate.paper.scores import evaluated_cells, population_scores
from perturbrl.evaluate.returns import do_nothing_returns, return_gain
from perturbrl.evaluate.scoring import INFO, Simulated
from perturbrl.metrics_info import PAPER

CURVE_EPISODES = 64


class PaperCurve:
    """The ten metrics, mean |a| and the true return over that of doing nothing, on test cells, as released."""

    names = (*PAPER, "mean_abs_action", "return")

    def __init__(
        self, config: PaperProtocolConfig, env_configs: Sequence[Any], table: CellTable, device: torch.device
    ) -> None:
        self._config, self._device = config, device
        self._env = registry.envs[env_configs[0].name].build(env_configs, table, table.test, CURVE_EPISODES, device)
        self._x = evaluated_cells(table, config).to(device).expand(len(env_configs), -1, -1)
        self._nothing = do_nothing_returns(self._env, config.seed, config.max_steps, device)

    def at(self, act: PopulationAct) -> dict[str, Tensor]:
        """Return each of ``names``, [S]."""
        c = self._config
        scores = population_scores(act, self._x, self._env.action_space, c)
        gain = return_gain(act, self._env, c.seed, c.max_steps, self._nothing, self._device)
        return {name: torch.as_tensor(value) for name, value in scores.items()} | {"return": gain}


class PaperEvaluation:
    """Writes the evaluation of runs on the same cells: the ten metrics, mean |a| and returns of all rows."""

    def __init__(self, table: CellTable, env_config: Any, config: PaperProtocolConfig) -> None:
        self._rows = PaperRows(table, env_config, config)

    def evaluate(self, policy: Act | None, run: Mapping[str, Any], folder: Path, predictions: Path | None) -> None:
        """Write ``summary.json`` and ``per_feature.parquet``."""
        env_name = self._rows.env_config.name
        require(predictions is None, "baseline=predictions", f"needs env=counterfactual; this run has {env_name}")
        self.write(policy, {name: run[name] for name in INFO}, folder)

    def write(self, policy: Act | None, info: Mapping[str, Any], folder: Path) -> None:
        """As ``evaluate``; ``info`` joins the summary as it is.

        A number that does not exist (a diverged policy) is null in the summary and NaN in the table.
        """
        table, config = self._rows.table, self._rows.config
        rows = self._rows.of(policy)
        summary = summarise(rows, len(self._rows.cells), config, info)
        write_evaluation(folder, summary, {paths.PER_FEATURE: feature_table(rows, table)})


class PaperScoring:
    """``protocol=paper`` as a ``Scoring``: ten metrics of how little a policy does to test cells."""

    def __init__(self, config: PaperProtocolConfig) -> None:
        self.config = config

    def check(self, env_config: Any, split_config: Any) -> None:
        """Raise ``UserError`` for a split of conditions."""
        problem = (
            f"env={env_config.name}: split={split_config.kind} holds out perturbations, but protocol=paper scores cells"
        )
        require(isinstance(split_config, SplitConfig), problem, "choose split=cells, or env=counterfactual")

    def curve(self, env_configs: Sequence[Any], table: CellTable, device: torch.device) -> PaperCurve:
        """Return the learning curve of S runs."""
        return PaperCurve(self.config, env_configs, table, device)

    def evaluation(self, table: CellTable, env_config: Any, simulated: Simulated | None) -> PaperEvaluation:
        """Return what scores runs on the test cells of ``table``."""
        return PaperEvaluation(table, env_config, self.config)


@registry.protocols.register("paper", PaperProtocolConfig)
def build(config: PaperProtocolConfig) -> PaperScoring:
    """Return the paper's protocol."""
    return PaperScoring(config)
