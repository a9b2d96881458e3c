"""Fit the value networks to returns by minibatch Adam. Letters: S runs, M transitions of a rollout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perturbrl.agents.common.losses import value_loss, value_loss_score
from perturbrl.agents.common.rollout import Log, Rollout, reorder
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.heads import Model
from perturbrl.agents.model.networks import Mlp
from perturbrl.agents.optim import Adam, part_optimiser
from perturbrl.optim.settings import OptimizerConfig


class Critic:
    """The value networks of S runs and their optimiser; an epoch is one native call where the kernels know them."""

    def __init__(
        self, model: Model, lr: Sequence[float], minibatch: int, optimizer: OptimizerConfig | None = None
    ) -> None:
        self.model, self.minibatch = model, minibatch
        self._columns = slice(model.policy_size, model.theta.shape[1])
        self.adam = part_optimiser(model, "value", lr, optimizer)
        self._moments = self.adam.moments if isinstance(self.adam, Adam) else None
        network = model.value_net if isinstance(model, ActorCritic) else None
        native = isinstance(network, Mlp) and model.arithmetic.native_for(model.theta) is not None
        fused = isinstance(network, Mlp) and native and self._moments is not None
        self._chain = network.chain if isinstance(network, Mlp) and fused else None
        self.executor_name = "torch" if self._chain is None else "native"

    @torch.no_grad()
    def fit(self, batch: Rollout, orders: Sequence[Tensor]) -> Log:
        """Pass over a rollout once for each of ``orders`` [S, M]; log the loss before."""
        model = self.model
        for order in orders:
            obs, ret = reorder(order, batch.obs, batch.ret)
            if self._chain is not None and self._moments is not None:
                fitted = (self._chain, model.theta, model.grad, self._moments, obs, ret, self.minibatch)
                model.arithmetic.value_epoch(*fitted)
                continue
            for rows, target in zip(*(torch.split(x, self.minibatch, 1) for x in (obs, ret)), strict=True):
                value, cache = model.value(rows)
                model.value_vjp(cache, value_loss_score(value, target), model.grad)
                self.adam.step(model.grad[:, self._columns])
        return {"value_loss": value_loss(batch.value, batch.ret), "explained_variance": batch.explained_variance()}
