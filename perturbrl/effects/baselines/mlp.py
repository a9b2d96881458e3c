"""A supervised network with the policy's own inputs: it tells whether reinforcement learning is needed at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from perturbrl.bounds import NonNegativeFloat, NonNegativeInt, OneOf, PositiveFloat, PositiveInt
from perturbrl.effects.baselines.base import Array, BaselineConfig, Conditions, Configured
from perturbrl.effects.baselines.descriptors import inputs
from perturbrl.effects.responses import Responses, trained, tuning
from perturbrl.optim import by_name
from perturbrl.optim.settings import NAMES
from perturbrl.registry import baselines
from perturbrl.rng import derive
from perturbrl.screens.schema import PerturbationTable


@dataclass(frozen=True)
class MlpConfig(BaselineConfig):
    """Two hidden layers of ``hidden`` units, trained until ``patience`` epochs bring no improvement."""

    hidden: PositiveInt
    optimizer: Annotated[str, OneOf(*NAMES)]
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    batch: PositiveInt
    epochs: NonNegativeInt
    patience: PositiveInt


@baselines.register("mlp", MlpConfig)
class Mlp(Configured):
    """Mean control, description and covariates -> change less the train mean: two hidden layers, squared error.

    The final weights are those of the epoch with the least error on validation (on held-out training conditions where
    there is no validation); the initial network predicts the training mean.
    """

    def fit(self, table: PerturbationTable) -> None:
        """Train until the error on validation has not fallen for ``patience`` epochs."""
        self._described = inputs(table)
        self._train = trained(table)
        train, validation = tuning(table)
        x, y = self._inputs(train.conditions), self._targets(train, train)
        x_validation, y_validation = self._inputs(validation.conditions), self._targets(train, validation)
        # outputs of unit size, so that one learning rate fits every screen
        self._scale = max(float(y.square().mean().sqrt()), 1e-12)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.context.seed, "baseline/mlp"))
            self._model = _network(x.shape[1], self.config.hidden, y.shape[1])
            self._descend(x, y / self._scale, x_validation, y_validation / self._scale)

    def predict(self, conditions: Conditions) -> Array:
        """Return the train mean plus the output of the network, [n, G]."""
        with torch.no_grad():
            output = self._model(self._inputs(conditions)).double().numpy() * self._scale
        return np.asarray(self._train.mean_changes(conditions) + output)

    def _descend(self, x: Tensor, y: Tensor, x_validation: Tensor, y_validation: Tensor) -> None:
        c: MlpConfig = self.config
        descent = by_name(c.optimizer, self._model.parameters(), c.learning_rate, c.weight_decay)
        best, best_epoch = float(y_validation.square().mean()), 0
        weights = {name: value.clone() for name, value in self._model.state_dict().items()}
        for epoch in range(1, c.epochs + 1):
            for batch in torch.split(torch.randperm(len(x)), c.batch):
                descent.zero_grad()
                nn.functional.mse_loss(self._model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
                descent.step()
            with torch.no_grad():
                error = float(nn.functional.mse_loss(self._model(x_validation), y_validation))
            if error < best:
                best, best_epoch = error, epoch
                weights = {name: value.clone() for name, value in self._model.state_dict().items()}
            elif epoch - best_epoch >= c.patience:
                break
        self._model.load_state_dict(weights)

    def _inputs(self, conditions: Conditions) -> Tensor:
        control = self._train.control
        mean = np.mean(list(control.values()), axis=0)
        # a context without training controls enters as the mean of the others
        cells = np.array([control.get(self._train.known[c].context, mean) - mean for c in conditions])
        return torch.from_numpy(np.hstack([cells, self._described[conditions]])).float()

    def _targets(self, train: Responses, responses: Responses) -> Tensor:
        return torch.from_numpy(responses.change - train.mean_changes(responses.conditions)).float()


def _network(n_inputs: int, hidden: int, n_outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, n_outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    first = [nn.Linear(n_inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*first, last)
