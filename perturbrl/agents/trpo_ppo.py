"""TRPO -> PPO, the proposed method of arXiv 2510.13018, in the two readings of how the stages meet.

``stages``: some TRPO rollouts, then PPO from the parameters reached (what the released code does). ``interleaved``:
Algorithm 1 as printed, in each iteration a natural step and then PPO epochs on the same batch. Budgets come from
``schedule=``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from perturbrl.agents.clone import with_clone
from perturbrl.agents.learner import Learner, Stage, same
from perturbrl.agents.model.actor_critic import ActorCritic, PolicyConfig
from perturbrl.agents.ppo import PPOConfig, PPOUpdate
from perturbrl.agents.rollout import Rollout
from perturbrl.agents.trpo import TRPOConfig, TRPOUpdate
from perturbrl.bounds import NonNegativeInt, OneOf, PositiveFloat
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.registry import agents
from perturbrl.rng import Streams

SHARED = ("n_envs", "rollout_steps")
CLONE = ("clone_steps", "clone_lr")  # said once for both stages


@dataclass(frozen=True)
class TRPOPPOConfig:
    """Settings of the two stages; meanings stand in ``conf/agent/trpo_ppo.yaml``."""

    name: str
    mode: Annotated[str, OneOf("stages", "interleaved")]
    handover: Annotated[str, OneOf("parameters", "parameters_and_moments")]
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat
    trpo: TRPOConfig
    ppo: PPOConfig

    def check(self, where: str) -> None:
        """Raise ``UserError`` for stages that do not fit each other."""
        once = ("total_steps", "gamma", "gae_lambda") if self.mode == "interleaved" else ()
        for key in (*SHARED, *once):
            a, b = getattr(self.trpo, key), getattr(self.ppo, key)
            require(a == b, f"{where}.ppo.{key}", f"is {b} but {where}.trpo.{key} is {a}; both stages need the same")
        for key in CLONE:
            own = getattr(self, key)
            for stage, config in (("trpo", self.trpo), ("ppo", self.ppo)):
                said = f"is {getattr(config, key)} but {where}.{key} is {own}; set {where}.{key} alone"
                require(getattr(config, key) == own, f"{where}.{stage}.{key}", said)

    @property
    def n_envs(self) -> int:
        """B, the number of cells stepped together."""
        return self.trpo.n_envs


class InterleavedUpdate:
    """Algorithm 1, lines 4 to 16: the natural step, then clipped epochs on the batch that the old policy collected.

    ``clip_fraction_first`` in the log says how much of the clip the natural step has already used up.
    """

    def __init__(self, first: TRPOUpdate, second: PPOUpdate) -> None:
        self.first, self.second = first, second

    def run(self, batch: Rollout, iteration: int) -> dict[str, Tensor]:
        return self.first.policy_step(batch) | self.second.run(batch, iteration)

    def state(self) -> dict[str, Tensor]:
        return self.second.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.second.load_state(state)


@agents.register("trpo_ppo", TRPOPPOConfig)
def build(
    configs: Sequence[TRPOPPOConfig],
    policies: Sequence[PolicyConfig],
    env: BatchedEnv,
    slices: Mapping[str, slice],
    streams: Streams,
) -> Learner:
    """Build TRPO -> PPO for S runs."""
    model = ActorCritic.for_env(policies, env, slices, streams)
    first_configs, second_configs = [c.trpo for c in configs], [c.ppo for c in configs]
    first = TRPOUpdate(first_configs, model, streams)
    second = PPOUpdate(second_configs, model, streams)
    rollout_steps = int(same(first_configs, "rollout_steps"))
    trust_region = Stage.of("trpo", first_configs, first, streams.device)
    clipped = Stage.of("ppo", second_configs, second, streams.device)

    def hand_over() -> None:
        if same(configs, "handover") == "parameters_and_moments":
            second.value_adam.load_state(first.adam.state())

    stages: list[Stage]
    if same(configs, "mode") == "interleaved":
        stages = [dataclasses.replace(clipped, name="trpo_ppo", update=InterleavedUpdate(first, second))]
    else:
        stages = [trust_region, dataclasses.replace(clipped, begin=hand_over)]
    stages = with_clone(stages, first_configs, first.epochs, rollout_steps, model, env, streams)
    return Learner(model, env, streams, rollout_steps, stages)
