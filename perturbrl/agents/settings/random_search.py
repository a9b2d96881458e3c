"""The settings of random search; meanings, units and defaults stand in ``conf/agent/random_search.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl.agents.common.learner import check_rollout
from perturbrl.bounds import PerRun, PositiveFloat, PositiveInt, Probability


@dataclass(frozen=True)
class RandomSearchConfig:
    """Settings of random search: no gradient, no critic, no discount but that of the score."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    gamma: PerRun[Probability]
    sigma: PerRun[PositiveFloat]

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.rollout_steps)
