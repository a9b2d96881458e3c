"""A supervised network with the policy's own inputs: it tells whether reinforcement learning is needed at all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from perturbrl.effects.baselines.base import Array, Conditions
from perturbrl.effects.baselines.descriptors import inputs
from perturbrl.effects.responses import Responses, trained, tuning
from perturbrl.rng import derive
from perturbrl.screens.schema import PerturbationTable

HIDDEN = 128
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-4
BATCH = 32
EPOCHS = 100
PATIENCE = 10


class Mlp:
    """Mean control, description and covariates -> change less the train mean: two hidden layers, squared error.

    The weights kept are those of the epoch with the least error on validation (on held-out training conditions where
    there is no validation); before the first epoch the network says the train mean.
    """

    name = "mlp"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, table: PerturbationTable) -> None:
        """Train by AdamW until the error on validation has not fallen for ``PATIENCE`` epochs."""
        self._described = inputs(table)
        self._train = trained(table)
        fit, held = tuning(table)
        x, y = self._inputs(fit.conditions), self._targets(fit, fit)
        x_held, y_held = self._inputs(held.conditions), self._targets(fit, held)
        # outputs of unit size, so that one learning rate fits every screen
        self._scale = max(float(y.square().mean().sqrt()), 1e-12)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "baseline/mlp"))
            self._model = _network(x.shape[1], y.shape[1])
            self._descend(x, y / self._scale, x_held, y_held / self._scale)

    def predict(self, conditions: Conditions) -> Array:
        """Return the train mean plus what the network says, [n, G]."""
        with torch.no_grad():
            said = self._model(self._inputs(conditions)).double().numpy() * self._scale
        return np.asarray(self._train.mean_changes(conditions) + said)

    def _descend(self, x: Tensor, y: Tensor, x_held: Tensor, y_held: Tensor) -> None:
        descent = torch.optim.AdamW(self._model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        best, best_epoch = float(y_held.square().mean()), 0
        kept = {name: value.clone() for name, value in self._model.state_dict().items()}
        for epoch in range(1, EPOCHS + 1):
            for batch in torch.split(torch.randperm(len(x)), BATCH):
                descent.zero_grad()
                nn.functional.mse_loss(self._model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
                descent.step()
            with torch.no_grad():
                error = float(nn.functional.mse_loss(self._model(x_held), y_held))
            if error < best:
                best, best_epoch = error, epoch
                kept = {name: value.clone() for name, value in self._model.state_dict().items()}
            elif epoch - best_epoch >= PATIENCE:
                break
        self._model.load_state_dict(kept)

    def _inputs(self, conditions: Conditions) -> Tensor:
        control = self._train.control
        mean = np.mean(list(control.values()), axis=0)
        # a context without training controls enters as the mean of the others
        cells = np.array([control.get(self._train.known[c].context, mean) - mean for c in conditions])
        return torch.from_numpy(np.hstack([cells, self._described[conditions]])).float()

    def _targets(self, fit: Responses, of: Responses) -> Tensor:
        return torch.from_numpy(of.change - fit.mean_changes(of.conditions)).float()


def _network(n_inputs: int, n_outputs: int) -> nn.Sequential:
    last = nn.Linear(HIDDEN, n_outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    first = [nn.Linear(n_inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
    return nn.Sequential(*first, last)
