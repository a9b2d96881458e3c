"""Trust region policy optimisation (Schulman et al. 2015), the arm "TRPO" of arXiv 2510.13018."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from perturbrl.agents.clone import with_clone
from perturbrl.agents.learner import Learner, Stage, check_rollout, per_run, same
from perturbrl.agents.losses import normalise, value_loss_score
from perturbrl.agents.model.actor_critic import ActorCritic, PolicyConfig
from perturbrl.agents.model.distributions import Distribution, joined
from perturbrl.agents.model.networks import Mlp
from perturbrl.agents.natural import (
    Operator,
    conjugate_gradient,
    fisher_vector_product,
    line_search,
    natural_step,
    policy_gradient,
)
from perturbrl.agents.optim import Adam
from perturbrl.agents.rollout import Rollout, reorder
from perturbrl.bounds import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PerRun,
    PositiveFloat,
    PositiveInt,
    Probability,
)
from perturbrl.envs.base import BatchedEnv
from perturbrl.registry import agents
from perturbrl.rng import Streams

BLOCK = 512  # states


@dataclass(frozen=True)
class TRPOConfig:
    """Settings of TRPO; meanings and units stand in ``conf/agent/trpo.yaml``."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    gae_lambda: PerRun[Probability]
    target_kl: PerRun[PositiveFloat]
    kl: Annotated[str, OneOf("per_dimension", "summed")]
    cg_iterations: PositiveInt
    damping: PerRun[NonNegativeFloat]
    line_search_shrink: PerRun[Fraction]
    line_search_tries: PositiveInt
    critic_epochs: PositiveInt
    minibatch: PositiveInt
    normalise_advantage: bool
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.minibatch)


@dataclass(frozen=True)
class Block:
    """Some states of a batch, [S, size]: the policy there, what its derivatives need, and their share of the batch."""

    dist: Distribution
    cache: Any
    action: Tensor
    advantage: Tensor
    share: float


class TRPOUpdate:
    """One natural step of the policy and some epochs of Adam on the value network, for S runs at once."""

    def __init__(self, configs: Sequence[TRPOConfig], model: ActorCritic, streams: Streams) -> None:
        device = streams.device
        self.model, self.streams = model, streams
        self.cg_iterations, self.tries = int(same(configs, "cg_iterations")), int(same(configs, "line_search_tries"))
        self.epochs, self.minibatch = int(same(configs, "critic_epochs")), int(same(configs, "minibatch"))
        self.normalise = bool(same(configs, "normalise_advantage"))
        # sb3-contrib averages the KL over action dimensions too, which widens its trust region A times
        averaged = same(configs, "kl") == "per_dimension" and model.actions.kind == "box"
        self.kl_scale = 1 / model.actions.size if averaged else 1.0
        self.delta = per_run(configs, "target_kl", device)
        self.damping = per_run(configs, "damping", device)
        self.shrink = per_run(configs, "line_search_shrink", device)
        self.value_columns = slice(model.policy_size, model.theta.shape[1])
        self.grad = torch.zeros_like(model.theta)
        model.remember(self.grad)
        self.adam = Adam(model.theta[:, self.value_columns], [c.lr for c in configs])

    def run(self, batch: Rollout, iteration: int) -> dict[str, Tensor]:
        """Improve every policy and value network on its batch."""
        return self.policy_step(batch) | self.critic_steps(batch, iteration)

    def policy_step(self, batch: Rollout) -> dict[str, Tensor]:
        """Lines 4 to 8 of Algorithm 1, with the optional line search of section III-C."""
        model = self.model
        advantage = normalise(batch.advantage) if self.normalise else batch.advantage
        blocks = self._blocks(batch, advantage)
        old = joined([b.dist for b in blocks])
        g = self._sum(blocks, lambda b: policy_gradient(model, b.dist, b.cache, b.action, b.advantage))  # eq. 3
        d = conjugate_gradient(self._fisher(blocks), g, self.cg_iterations)  # eq. 5
        step = natural_step(g, d, self.delta)  # eq. 6
        found = line_search(
            model,
            old,
            batch.obs,
            batch.action,
            batch.log_prob,
            advantage,
            step,
            self.delta,
            self.shrink,
            self.tries,
            self.kl_scale,
        )
        return {
            "kl": found.kl,
            "accepted": found.accepted.float(),
            "step_size": found.step,
            "backtracks": found.backtracks,
            "improvement": found.improvement,
            "entropy": old.entropy(),
        }

    def _blocks(self, batch: Rollout, advantage: Tensor) -> list[Block]:
        """Cut a batch into blocks of states whose activations stay in a CPU's cache."""
        n = advantage.shape[1]
        size = BLOCK if advantage.is_cpu else n
        parts = (torch.split(x, size, 1) for x in (batch.obs, batch.action, advantage))
        return [
            Block(*self.model.policy(obs), action, part, part.shape[1] / n)
            for obs, action, part in zip(*parts, strict=True)
        ]

    @staticmethod
    def _sum(blocks: Sequence[Block], of: Callable[[Block], Tensor]) -> Tensor:
        """Mean over the batch of what ``of`` gives as the mean over a block, [S, n]."""
        total = of(blocks[0]).mul_(blocks[0].share)
        for block in blocks[1:]:
            total.add_(of(block), alpha=block.share)
        return total

    def _fisher(self, blocks: Sequence[Block]) -> Operator:
        """Return v -> H v + damping v."""

        def apply(v: Tensor) -> Tensor:
            def product(b: Block) -> Tensor:
                return fisher_vector_product(self.model, b.dist, b.cache, v, self.damping, self.kl_scale)

            return self._sum(blocks, product)

        return apply

    def critic_steps(self, batch: Rollout, iteration: int) -> dict[str, Tensor]:
        """Fit the value network to the returns."""
        n = batch.ret.shape[1]
        orders = self.streams.permutations("minibatch", iteration, n, self.epochs)
        grad = self.grad[:, self.value_columns]
        for epoch in range(self.epochs):
            obs, ret = reorder(orders[:, epoch], batch.obs, batch.ret)
            if self._native_epoch(obs, ret):
                continue
            for start in range(0, n, self.minibatch):
                rows = slice(start, start + self.minibatch)
                value, cache = self.model.value(obs[:, rows])
                self.model.value_vjp(cache, value_loss_score(value, ret[:, rows]), self.grad)
                self.adam.step(grad)
        explained = 1 - (batch.ret - batch.value).var(1) / batch.ret.var(1)
        return {"value_loss": (batch.value - batch.ret).square().mean(1), "explained_variance": explained}

    def _native_epoch(self, obs: Tensor, ret: Tensor) -> bool:
        net = self.model.value_net
        return isinstance(net, Mlp) and self.model.arithmetic.value_epoch(
            net.chain, self.model.theta, self.grad, self.adam.moments, obs, ret, self.minibatch
        )

    def state(self) -> dict[str, Tensor]:
        return self.adam.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.adam.load_state(state)


@agents.register("trpo", TRPOConfig)
def build(
    configs: Sequence[TRPOConfig],
    policies: Sequence[PolicyConfig],
    env: BatchedEnv,
    slices: Mapping[str, slice],
    streams: Streams,
) -> Learner:
    """Build TRPO for S runs."""
    model = ActorCritic.for_env(policies, env, slices, streams)
    update = TRPOUpdate(configs, model, streams)
    rollout_steps = int(same(configs, "rollout_steps"))
    own = [Stage.of("trpo", configs, update, streams.device)]
    stages = with_clone(own, configs, update.epochs, rollout_steps, model, env, streams)
    return Learner(model, env, streams, rollout_steps, stages)
