"""Soft actor-critic (Haarnoja et al. 2018b, Soft actor-critic algorithms and applications, arXiv 1812.05905).

Equation numbers are those of the paper. Details as in Stable-Baselines3: the temperature of a step is that before its
own update, the policy is improved on the critics after theirs, the targets follow last. Letters: S runs, M transitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from perturbrl.agents.common.recipe import Settings
from perturbrl.agents.common.rollout import Log
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.agents.optim import Adam, with_prefix
from perturbrl.agents.sac.learner import ReplayLearner
from perturbrl.agents.sac.networks import CRITICS, SACNetworks
from perturbrl.agents.sac.replay import Transitions
from perturbrl.agents.sac.squashed import Sample
from perturbrl.agents.settings.sac import SACConfig
from perturbrl.envs.base import BatchedEnv
from perturbrl.registry import agents
from perturbrl.rng import Streams


class SAC:
    """Gradient steps of S runs at once; ``c`` are their settings, those that may differ as [S, 1]."""

    name = "sac"

    def __init__(self, configs: Sequence[SACConfig], model: SACNetworks, streams: Streams) -> None:
        self.model = model
        self.c: Any = Settings(configs, streams.device)
        self.notes: tuple[str, ...] = ()
        self.executor = "torch" if model.arithmetic.native_for(model.theta) is None else "native"
        self.log_alpha = self.c.ent_coef.log()
        self.target_entropy = self.c.target_entropy * model.actions.size
        self._tau = self.c.tau.repeat_interleave(CRITICS, 0)
        lr = [config.lr for config in configs]
        self.optimisers = {
            "policy": Adam(model.theta, lr, eps=1e-8),
            "critic": Adam(model.critics, [rate for rate in lr for _ in range(CRITICS)], eps=1e-8),
            "alpha": Adam(self.log_alpha, lr, eps=1e-8),
        }

    @torch.no_grad()
    def step(self, batch: Transitions, noise: Tensor) -> Log:
        """Take one step of Adam on each of the three losses, then move the targets (algorithm 1).

        Parameters
        ----------
        batch
            M transitions of each run.
        noise
            Standard normals for the actions in (``noise[:, 0]``) and after (``noise[:, 1]``) the states, [S, 2, M, A].

        Returns
        -------
        Log
            Each [S], as it was before the step.
        """
        model, alpha = self.model, self.log_alpha.exp()
        policy, cache = model.policy(batch.obs)
        new = policy.sample(noise[:, 0])
        critic_loss, q = self.critic_step(batch, self.target(batch, noise[:, 1], alpha))
        policy_loss = self.policy_step(batch, cache, new, alpha)
        entropy = -new.log_prob.mean(1)
        if self.c.tune_ent_coef:
            # eq. 18 with log alpha in the place of alpha before the bracket: it may not turn negative
            self.optimisers["alpha"].step(entropy.unsqueeze(1) - self.target_entropy)
        model.targets.lerp_(model.critics, self._tau)
        log = {"value_loss": critic_loss, "policy_loss": policy_loss, "entropy": entropy}
        return log | {"q": q, "ent_coef": alpha.squeeze(1)}

    def target(self, batch: Transitions, noise: Tensor, alpha: Tensor) -> Tensor:
        """Return what both critics should say, [S, M]: r + gamma V(s'), V of the target networks."""
        new = self.model.policy(batch.next_obs)[0].sample(noise)
        q = self.model.critic(self.model.targets, batch.next_obs, new.action)[0].amin(1)
        value = q - alpha * new.log_prob  # eq. 3
        target: Tensor = batch.reward + self.c.gamma * torch.where(batch.terminated, 0.0, value)
        return target

    def critic_step(self, batch: Transitions, target: Tensor) -> tuple[Tensor, Tensor]:
        """Fit both critics; return the sum of their losses, and the mean Q, each [S]."""
        q, cache = self.model.critic(self.model.critics, batch.obs, batch.action)
        error = q - target.unsqueeze(1)
        loss = 0.5 * error.square().mean(2).sum(1)  # eq. 5
        self.model.critic_vjp(cache, error / error.shape[2])
        self.optimisers["critic"].step(self.model.critics_grad)
        return loss, q.mean((1, 2))

    def policy_step(self, batch: Transitions, cache: Any, new: Sample, alpha: Tensor) -> Tensor:
        """Improve the policy on the smaller critic, through the actions ``new``; return the loss, [S]."""
        q, critic_cache = self.model.critic(self.model.critics, batch.obs, new.action)
        least, which = q.min(1)
        loss = (alpha * new.log_prob - least).mean(1)  # eq. 7, in the form of eq. 9
        share = 1 / least.shape[1]
        d_q = torch.zeros_like(q).scatter_(1, which.unsqueeze(1), -share)
        d_action = self.model.action_gradient(critic_cache, d_q)
        self.model.policy_vjp(cache, new.pull_back(d_action, (alpha * share).expand_as(least)))
        self.optimisers["policy"].step(self.model.grad)
        return loss

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs beside ``theta``, each with a leading axis S."""
        named = {name: self._by_run(getattr(self.model, name)) for name in ("critics", "targets")}
        for name, optimiser in self.optimisers.items():
            named |= {key: self._by_run(x) for key, x in with_prefix(name, optimiser.state()).items()}
        return named | {"log_alpha": self.log_alpha}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def _by_run(self, tensor: Tensor) -> Tensor:
        """View rows of critics, [2 S, ...], as [S, 2, ...]."""
        runs = self.log_alpha.shape[0]
        return tensor if tensor.shape[0] == runs else tensor.view(runs, CRITICS, *tensor.shape[1:])


@agents.register("sac", SACConfig)
def build(
    configs: Sequence[SACConfig],
    policies: Sequence[PolicyConfig],
    env: BatchedEnv,
    slices: Mapping[str, slice],
    streams: Streams,
) -> ReplayLearner:
    """Build SAC for S runs; see ``registry``."""
    sac = SAC(configs, SACNetworks.for_env(policies, env, slices, streams), streams)
    return ReplayLearner(sac, configs[0], env, streams)


build.make_model = SACNetworks.for_env  # type: ignore[attr-defined]  # evaluation needs the networks alone
