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

from perturbrl.agents.build import learner
from perturbrl.agents.learner import Learner, Stage, same
from perturbrl.agents.model.actor_critic import ActorCritic, PolicyConfig
from perturbrl.agents.ppo import PPO, PPOConfig
from perturbrl.agents.rollout import Log, Rollout
from perturbrl.agents.trpo import TRPO, TRPOConfig
from perturbrl.bounds import NonNegativeInt, OneOf, PositiveFloat
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.registry import agents
from perturbrl.rng import Streams

SHARED = ("n_envs", "rollout_steps")
CLONE = ("clone_steps", "clone_lr")  # stated once, for both stages


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
            common = getattr(self, key)
            for stage, config in (("trpo", self.trpo), ("ppo", self.ppo)):
                message = f"is {getattr(config, key)} but {where}.{key} is {common}; set {where}.{key} alone"
                require(getattr(config, key) == common, f"{where}.{stage}.{key}", message)

    @property
    def n_envs(self) -> int:
        """B, the number of cells stepped together."""
        return self.trpo.n_envs


class Interleaved:
    """Algorithm 1, lines 4 to 16: a natural step, then PPO epochs on the same batch.

    Lines 1 to 3 and 17 are ``Learner.iterate``. Ratios (eq. 1) refer to theta_k, which collected the batch. So
    ``clip_fraction_first`` in the log is the share of ratios that the natural step alone has moved beyond the clip.
    """

    def __init__(self, trpo: TRPO, ppo: PPO) -> None:
        self.trpo, self.ppo = trpo, ppo
        self.executor_name, self.notes = ppo.executor_name, ppo.notes

    def update(self, batch: Rollout, iteration: int) -> Log:
        natural = self.trpo.policy_step(batch)  # lines 4 to 8: theta' = theta_k + natural step
        clipped = self.ppo.update(batch, iteration)  # lines 9 to 16: theta_k+1 = theta' after N_ppo epochs of eq. 8
        return natural | clipped

    def state(self) -> dict[str, Tensor]:
        return self.ppo.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.ppo.load_state(state)


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
    trpo_configs, ppo_configs = [c.trpo for c in configs], [c.ppo for c in configs]
    trpo, ppo = TRPO(trpo_configs, model, streams), PPO(ppo_configs, model, streams)
    first = Stage.of("trpo", trpo_configs, trpo, streams.device)
    second = Stage.of("ppo", ppo_configs, ppo, streams.device)

    def hand_over() -> None:
        if same(configs, "handover") == "parameters_and_moments":
            ppo.adam.value.load_state(trpo.critic.adam.state())

    if same(configs, "mode") == "interleaved":
        stages = [dataclasses.replace(second, name="trpo_ppo", recipe=Interleaved(trpo, ppo))]
    else:
        stages = [first, dataclasses.replace(second, begin=hand_over)]
    return learner(stages, trpo_configs, model, env, streams)


build.make_model = ActorCritic.for_env  # type: ignore[attr-defined]  # evaluation needs the networks alone
