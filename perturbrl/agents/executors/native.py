"""An epoch of steps in one native call, for the recipes and networks that the C kernels know."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.executors.plain import Epoch, stacked
from perturbrl.agents.kernels.fused import FusedPPO
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.heads import Model
from perturbrl.agents.model.networks import Mlp
from perturbrl.agents.optim import PolicyValueAdam

Objective = Callable[[Tensor, Tensor, Tensor, Rollout], tuple[Tensor, Log]]
"""``PPO.objective``: the loss and what to log, from ratios and values [S, M] and the entropy [S]."""


class NativePPO:
    """The steps of PPO (eq. 8) on Gaussian policies; ``objective`` computes what they log."""

    name = "native"

    def __init__(
        self,
        model: ActorCritic,
        adam: PolicyValueAdam,
        minibatch: int,
        objective: Objective,
        clip: Tensor,
        vf_coef: Tensor,
        ent_coef: Tensor,
        max_grad_norm: Tensor,
    ) -> None:
        self._model, self._minibatch, self._objective = model, minibatch, objective
        native, policy, value = model.arithmetic.native_for(model.theta), model.policy_net, model.value_net
        assert native is not None and isinstance(policy, Mlp) and isinstance(value, Mlp)
        self._fused = FusedPPO(
            *(native, policy.chain, value.chain, policy.chain.stop, model.theta, model.grad),
            (adam.policy.moments, adam.value.moments),
            *(clip, vf_coef, ent_coef, max_grad_norm),
        )

    @staticmethod
    def fits(model: Model) -> bool:
        """Whether the kernels know the networks of a model."""
        return (
            isinstance(model, ActorCritic)
            and model.actions.kind == "box"
            and isinstance(model.policy_net, Mlp)
            and isinstance(model.value_net, Mlp)
            and model.arithmetic.native_for(model.theta) is not None
        )

    def epoch(self, batch: Rollout, active: Tensor | None, logged: bool) -> Epoch:
        """See ``Executor``; every run takes every step."""
        assert active is None
        entropy = self._model.policy(batch.obs[:, :1])[0].entropy() if logged else None
        fields = batch.obs, batch.action, batch.log_prob, batch.advantage, batch.ret
        ratio, value = self._fused.epoch(*fields, self._minibatch, self._model.arithmetic.bf16)
        if entropy is None:
            return {}, active
        steps = zip(*(torch.split(x, self._minibatch, 1) for x in (ratio, value)), strict=True)
        parts = zip(steps, batch.minibatches(self._minibatch), strict=True)
        return stacked([self._objective(r, v, entropy, part)[1] for (r, v), part in parts]), active
