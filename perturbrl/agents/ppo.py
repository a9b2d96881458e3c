"""Proximal policy optimisation (Schulman et al. 2017), the arm "PPO" of arXiv 2510.13018."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from perturbrl.agents.clone import with_clone
from perturbrl.agents.executors.graphs import Replayed, record
from perturbrl.agents.kernels.fused import FusedPPO
from perturbrl.agents.learner import Learner, Stage, check_rollout, per_run, same, under, with_prefix
from perturbrl.agents.losses import (
    clipped_surrogate_score,
    importance_ratio,
    normalise,
    policy_change,
    value_loss,
    value_loss_score,
)
from perturbrl.agents.model.actor_critic import ActorCritic, PolicyConfig
from perturbrl.agents.model.networks import Mlp
from perturbrl.agents.optim import Adam
from perturbrl.agents.rollout import Rollout, reorder
from perturbrl.bounds import NonNegativeFloat, NonNegativeInt, Number, PerRun, PositiveFloat, PositiveInt, Probability
from perturbrl.envs.base import BatchedEnv
from perturbrl.registry import agents
from perturbrl.rng import Streams


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; meanings and units stand in ``conf/agent/ppo.yaml``."""

    name: str
    total_steps: PositiveInt
    rollout_steps: PositiveInt
    n_envs: PositiveInt
    epochs: PositiveInt
    minibatch: Annotated[int, Number(least=2)]  # advantages are normalised within it
    lr: PerRun[PositiveFloat]
    gamma: PerRun[Probability]
    gae_lambda: PerRun[Probability]
    clip: PerRun[Probability]
    vf_coef: PerRun[NonNegativeFloat]
    ent_coef: PerRun[float]
    max_grad_norm: PerRun[Annotated[float, Number(above=0, finite=False)]]
    normalise_advantage: bool
    target_kl: PositiveFloat | None
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for sizes that do not divide."""
        check_rollout(where, self.rollout_steps, self.n_envs, self.minibatch)


DIAGNOSES = ("approx_kl", "clip_fraction", "value_loss", "entropy")


class PPOUpdate:
    """Epochs of minibatch Adam on the clipped surrogate, for S runs at once."""

    def __init__(self, configs: Sequence[PPOConfig], model: ActorCritic, streams: Streams) -> None:
        device = streams.device
        self.model, self.streams = model, streams
        self.epochs, self.minibatch = int(same(configs, "epochs")), int(same(configs, "minibatch"))
        self.normalise = bool(same(configs, "normalise_advantage"))
        self.target_kl = same(configs, "target_kl")
        self.clip = per_run(configs, "clip", device)
        self.vf_coef = per_run(configs, "vf_coef", device)
        self.ent_coef = per_run(configs, "ent_coef", device)
        self.with_entropy = any(c.ent_coef != 0 for c in configs)
        self.max_grad_norm = per_run(configs, "max_grad_norm", device)
        self.grad = torch.zeros_like(model.theta)
        model.remember(self.grad)
        # two optimisers, so that a warm start can hand over the moments of the value network alone
        rates, split = [c.lr for c in configs], model.policy_size
        self.policy_adam, self.policy_grad = Adam(model.theta[:, :split], rates), self.grad[:, :split]
        self.value_adam, self.value_grad = Adam(model.theta[:, split:], rates), self.grad[:, split:]

        self.fused = self._fuse()
        self.graph: Replayed | None = None
        if model.theta.is_cuda:
            self.use_graph()

    def use_graph(self, recorder: Callable[..., Any] = record) -> None:
        """Record ``step`` once, and replay it for every minibatch (unless a target KL decides what each does)."""
        state = list(self.state().values())

        def step(*fields: Tensor) -> tuple[Tensor, ...]:
            told, _ = self.step(Rollout(*fields), True, None)
            return tuple(told[key] for key in DIAGNOSES)

        self.graph = Replayed(step, [self.model.theta, self.grad, *state], recorder)

    def _fuse(self) -> FusedPPO | None:
        """Return the native form of an epoch, for the networks that it knows."""
        model, native = self.model, self.model.arithmetic.native_for(self.model.theta)
        policy, value = model.policy_net, model.value_net
        if native is None or model.actions.kind != "box" or not isinstance(policy, Mlp) or not isinstance(value, Mlp):
            return None
        return FusedPPO(
            *(native, policy.chain, value.chain, policy.chain.stop, model.theta, self.grad),
            (self.policy_adam.moments, self.value_adam.moments),
            *(self.clip, self.vf_coef, self.ent_coef, self.max_grad_norm),
        )

    def run(self, batch: Rollout, iteration: int) -> dict[str, Tensor]:
        """Improve every policy on its batch."""
        n = batch.advantage.shape[1]
        orders = self.streams.permutations("minibatch", iteration, n, self.epochs)
        going = None if self.target_kl is None else torch.ones(len(orders), dtype=torch.bool, device=orders.device)
        logged: dict[str, Tensor] = {}
        for epoch in range(self.epochs):
            fields = (getattr(batch, name) for name in Rollout.__dataclass_fields__)
            shuffled = Rollout(*reorder(orders[:, epoch], *fields))
            if self.normalise:
                shuffled = replace(shuffled, advantage=normalise(shuffled.advantage, self.minibatch))
            diagnose = epoch in (0, self.epochs - 1)
            if self.fused is not None and going is None:
                found = self._native_epoch(shuffled, diagnose)
            else:
                steps = []
                for part in _parts(shuffled, self.minibatch):
                    take = self.step if self.graph is None or going is not None else self._replay
                    diagnosis, going = take(part, diagnose, going)
                    steps.append(diagnosis)
                found = {key: torch.stack([d[key] for d in steps], 1) for key in steps[0]}
            if epoch == 0:
                logged["clip_fraction_first"] = found["clip_fraction"][:, 0]
            logged |= {key: values.mean(1) for key, values in found.items()}
        explained = 1 - (batch.ret - batch.value).var(1) / batch.ret.var(1)
        return logged | {"explained_variance": explained}

    def step(self, mb: Rollout, diagnose: bool, going: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """One Adam step on a minibatch: L = -E[L_CLIP] + c_v E[(V - R)^2] - c_e E[entropy].

        Runs that are not ``going`` [S], or whose KL has just passed 1.5 ``target_kl``, stand still.
        """  # eq. 8
        model = self.model
        dist, policy_cache = model.policy(mb.obs)
        value, value_cache = model.value(mb.obs)
        log_prob, kept = dist.log_prob(mb.action)
        ratio = importance_ratio(log_prob, mb.log_prob)

        score = clipped_surrogate_score(ratio, mb.advantage, self.clip).mul_(-1 / ratio.shape[1])
        d_outputs, d_log_std = dist.log_prob_vjp(kept, score)
        if self.with_entropy:
            h_outputs, h_log_std = dist.entropy_vjp()
            if h_outputs is not None:
                d_outputs = d_outputs - self.ent_coef.unsqueeze(-1) * h_outputs
            if h_log_std is not None and d_log_std is not None:
                d_log_std = d_log_std - self.ent_coef * h_log_std
        model.policy_vjp(policy_cache, d_outputs, d_log_std, self.grad)
        model.value_vjp(value_cache, value_loss_score(value, mb.ret).mul_(self.vf_coef), self.grad)
        scale = model.arithmetic.clip_scale(self.grad, self.max_grad_norm)

        found: dict[str, Tensor] = {}
        if diagnose or going is not None:
            found = self._diagnosis(ratio, value, mb.ret, dist.entropy())
        if going is not None:
            going = going & (found["approx_kl"] <= 1.5 * self.target_kl)
        self.policy_adam.step(self.policy_grad, going, scale)
        self.value_adam.step(self.value_grad, going, scale)
        return found, going

    def _replay(self, mb: Rollout, diagnose: bool, going: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """Take ``step`` as it was recorded."""
        assert self.graph is not None
        told = self.graph(*(getattr(mb, name) for name in Rollout.__dataclass_fields__))
        return {key: x.clone() for key, x in zip(DIAGNOSES, told, strict=True) if diagnose}, going

    def _native_epoch(self, batch: Rollout, diagnose: bool) -> dict[str, Tensor]:
        """Every ``step`` of an epoch at once; return what they tell, each [S, number of minibatches]."""
        assert self.fused is not None
        entropy = self.model.policy(batch.obs[:, :1])[0].entropy() if diagnose else None
        fields = batch.obs, batch.action, batch.log_prob, batch.advantage, batch.ret
        ratio, value = self.fused.epoch(*fields, self.minibatch, self.model.arithmetic.bf16)
        if entropy is None:
            return {}
        parts = (torch.split(x, self.minibatch, 1) for x in (ratio, value, batch.ret))
        told = [self._diagnosis(r, v, ret, entropy) for r, v, ret in zip(*parts, strict=True)]
        return {key: torch.stack([d[key] for d in told], 1) for key in told[0]}

    def _diagnosis(self, ratio: Tensor, value: Tensor, ret: Tensor, entropy: Tensor) -> dict[str, Tensor]:
        change = policy_change(ratio, self.clip)
        told = change.approx_kl, change.clip_fraction, value_loss(value, ret), entropy
        return dict(zip(DIAGNOSES, told, strict=True))

    def state(self) -> dict[str, Tensor]:
        return with_prefix("policy", self.policy_adam.state()) | with_prefix("value", self.value_adam.state())

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.policy_adam.load_state(under("policy", state))
        self.value_adam.load_state(under("value", state))


def _parts(batch: Rollout, size: int) -> Iterator[Rollout]:
    fields = (torch.split(getattr(batch, name), size, 1) for name in Rollout.__dataclass_fields__)
    for part in zip(*fields, strict=True):
        yield Rollout(*part)


@agents.register("ppo", PPOConfig)
def build(
    configs: Sequence[PPOConfig],
    policies: Sequence[PolicyConfig],
    env: BatchedEnv,
    slices: Mapping[str, slice],
    streams: Streams,
) -> Learner:
    """Build PPO for S runs."""
    model = ActorCritic.for_env(policies, env, slices, streams)
    update = PPOUpdate(configs, model, streams)
    rollout_steps = int(same(configs, "rollout_steps"))
    own = [Stage.of("ppo", configs, update, streams.device)]
    stages = with_clone(own, configs, update.epochs, rollout_steps, model, env, streams)
    return Learner(model, env, streams, rollout_steps, stages)
