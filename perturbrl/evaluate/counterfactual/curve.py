"""The learning curve of ``protocol=counterfactual``, on validation conditions. Letters: S runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import registry
from perturbrl.effects.observed import effects_of
from perturbrl.envs.counterfactual.task import CounterfactualEnv
from perturbrl.evaluate.actions import PopulationAct
from perturbrl.evaluate.counterfactual.config import CounterfactualProtocolConfig
from perturbrl.evaluate.counterfactual.generated import GeneratedCells, fixed, shrinkage
from perturbrl.evaluate.counterfactual.profiles import ProfileMetrics
from perturbrl.evaluate.counterfactual.returns import best_returns, policy_returns, share
from perturbrl.evaluate.counterfactual.rollout import PredictedChanges, Rollouts
from perturbrl.generators.cells import CellGenerator
from perturbrl.metrics_info import columns_of
from perturbrl.screens.schema import PerturbationTable

EPISODES = 64
PROFILE_METRICS = (
    "pds_cosine",
    "pearson_delta_pert",
    "mse",
)  # what of it can rank (``columns_of``), and the first that can
BY_TRUTH = ("pds_cosine", "mse_norm")  # undefined by the conditions alone


class ValidationCurve:
    """Scores on validation conditions and control cells; none where the split leaves no validation conditions."""

    def __init__(
        self,
        config: CounterfactualProtocolConfig,
        env_configs: Sequence[Any],
        table: PerturbationTable,
        device: torch.device,
    ) -> None:
        self._config, self._n_runs = config, len(env_configs)
        split = table.split
        self.names: Sequence[str] = ()
        if not len(split.validation):
            return
        build = registry.envs[env_configs[0].name].build
        cells = EPISODES + -EPISODES % env_configs[0].mates
        self._env: CounterfactualEnv = build(env_configs, table, split.control_validation, cells, device)
        self._best = best_returns(self._env, config.seed).returns
        truth = effects_of(table, config.score, split.validation, split.control_validation, "validation")
        self._table, self._truth, self._metrics = table, truth, ProfileMetrics(truth)
        columns = columns_of(**truth.design)
        profile_metrics = [name for name in PROFILE_METRICS if name not in columns.left_out]
        first = next(iter(columns.ranking))
        if first not in profile_metrics:
            profile_metrics.insert(0, first)
        self._profile_metrics = tuple(profile_metrics)
        self.names = (*self._profile_metrics, "mean_abs_action", "return", "return_share")
        dynamics, controls = self._env.dynamics, split.control_validation
        self._rollouts = Rollouts(dynamics, table, controls, truth.conditions, config.curve_cells)

    def at(self, act: PopulationAct | CellGenerator) -> dict[str, Tensor]:
        """Return each of ``names``, [S]: means over validation conditions, an undefined value counted as its worst.

        A generator takes no actions: their size is NaN. A factor of its effects that is chosen on validation
        conditions is chosen on those that are scored here.
        """
        if not self.names:
            return {}
        predicted, returns = self._predicted(act)
        scores = [self._metrics.scores(np.nan_to_num(change)) for change in predicted.change]
        means = {name: np.array([_mean(name, s[name]) for s in scores]) for name in self._profile_metrics}
        means |= {"mean_abs_action": predicted.mean_abs_action}
        points = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in means.items()}
        return points | {"return": returns.mean(1).float(), "return_share": share(returns, self._best).float()}

    def _predicted(self, act: PopulationAct | CellGenerator) -> tuple[PredictedChanges, Tensor]:
        """Return the changes of the validation conditions, and what they earn, [S, B]."""
        if not isinstance(act, CellGenerator):
            changes = self._rollouts.changes(act, self._n_runs)
            return changes, policy_returns(act, self._env, self._config.seed).returns
        controls, n_cells = self._table.split.control_validation, self._config.curve_cells
        made = GeneratedCells(act, self._env, self._table, controls, self._config.seed)
        made.factor = shrinkage(made, self._truth, n_cells) if act.shrinkage is None else fixed(act)
        return made.changes(self._truth.conditions, n_cells), made.returns().returns


def _mean(name: str, values: NDArray[np.float64]) -> float:
    """Return the mean over conditions; those for which the metric is undefined whatever is predicted do not count."""
    known = values[np.isfinite(values)] if name in BY_TRUTH else np.nan_to_num(values)
    return float(known.mean()) if len(known) else float("nan")
