"""The rows of a table of ``protocol=paper``: the trained policy, and the policies that need no training.

Beside the ten published metrics stand two columns that the paper lacks (mean |a|, true return relative to doing
nothing) and four rows: do nothing, uniform and sign-random actions, the best constant action. Letters: n cells,
G features, B episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import registry, status
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace, BatchedEnv
from perturbrl.evaluate.actions import Act, constant, do_nothing, random_sign, random_uniform, together
from perturbrl.evaluate.paper.best_constant import best_constant
from perturbrl.evaluate.paper.config import PaperProtocolConfig
from perturbrl.evaluate.paper.metrics import plugin_metrics
from perturbrl.evaluate.paper.scores import action_scores, evaluated_cells
from perturbrl.evaluate.returns import episode_returns


@dataclass(frozen=True)
class Row:
    """One row of a table.

    ``per_feature`` maps each metric to [G]; ``returns`` [B] holds the return of each episode. Both are NaN where the
    policy gave an action that is not finite, and ``diverged`` is then true.
    """

    per_feature: Mapping[str, NDArray[np.float64]]
    mean_abs_action: float
    returns: NDArray[np.float64]
    return_gain: float
    return_gain_se: float
    diverged: bool

    def numbers(self) -> dict[str, float]:
        """Return the columns: metrics averaged over features, mean |a|, return, gain over doing nothing, its error."""
        macro = {name: float(values.mean()) for name, values in self.per_feature.items()}
        return macro | {
            "mean_abs_action": self.mean_abs_action,
            "return": float(self.returns.mean()),
            "return_gain": self.return_gain,
            "return_gain_se": self.return_gain_se,
        }


@dataclass(frozen=True)
class PaperRows:
    """Rows for the test cells of ``table`` in the task ``env_config``; what needs no policy is computed once.

    Raises
    ------
    UserError
        From its methods: the policy's actions have the wrong shape, the actions of the environment do not address the
        features, an episode does not end, or the test split has fewer than two cells.
    """

    table: CellTable
    env_config: Any
    config: PaperProtocolConfig

    @cached_property
    def cells(self) -> Tensor:
        """The test cells that the metrics see, [n, G] float32."""
        return evaluated_cells(self.table, self.config)

    @cached_property
    def floors(self) -> Mapping[str, Row]:
        """The rows that need no training: do_nothing, random_uniform, random_sign, best_constant."""
        with status.step("searching the best constant action"):
            best = best_constant(self.table, self.env_config, self.config)
        space: ActionSpace = self._env(1, 1).action_space
        acts = {
            "do_nothing": do_nothing(space),
            "random_uniform": random_uniform(space, self.config.seed),
            "random_sign": random_sign(space, self.config.seed),
            "best_constant": constant(best),
        }
        return self._evaluated(acts, None)

    def of(self, policy: Act | None) -> dict[str, Row]:
        """Return the row of a deterministic policy (None: one that diverged), then the floors, in table order."""
        nothing = self.floors["do_nothing"]
        if policy is None:
            return {"policy": _diverged(nothing), **self.floors}
        return {**self._evaluated({"policy": policy}, torch.from_numpy(nothing.returns)), **self.floors}

    def _env(self, n_runs: int, n_envs: int) -> BatchedEnv:
        build, table = registry.envs[self.env_config.name].build, self.table
        env: BatchedEnv = build([self.env_config] * n_runs, table, table.test, n_envs, "cpu")
        return env

    def _evaluated(self, acts: Mapping[str, Act], nothing: Tensor | None) -> dict[str, Row]:
        """Evaluate policies together. ``nothing`` [B]: returns of doing nothing; None: take those among ``acts``."""
        config, policies = self.config, together(list(acts.values()))
        env = self._env(len(acts), config.return_episodes)
        x = self.cells.expand(len(acts), -1, -1)
        scores, mean_abs_action = action_scores(policies, x, env.action_space, config, plugin_metrics())
        returns = episode_returns(policies, env, config.seed, config.max_steps).cpu()
        gains = (returns - (returns[list(acts).index("do_nothing")] if nothing is None else nothing)).numpy()
        rows = {}
        for k, name in enumerate(acts):
            gain = gains[k]
            rows[name] = Row(
                per_feature={metric: values[k] for metric, values in scores.items()},
                mean_abs_action=float(mean_abs_action[k]),
                returns=returns[k].numpy(),
                return_gain=float(gain.mean()),
                return_gain_se=float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("nan"),
                diverged=bool(np.isnan(mean_abs_action[k]) or not np.isfinite(gain).all()),
            )
        return rows


def _diverged(template: Row) -> Row:
    """Return the row of a policy that has diverged: NaN in the shapes of ``template``."""
    nan = float("nan")
    per_feature = {name: np.full_like(values, nan) for name, values in template.per_feature.items()}
    return Row(per_feature, nan, np.full_like(template.returns, nan), nan, nan, True)
