"""The optimiser of the networks of S runs, as their configs ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from perturbrl.agents.model.heads import Model
from perturbrl.agents.optim.adam import Adam
from perturbrl.agents.optim.state import strip_prefix, with_prefix
from perturbrl.optim.settings import AdamConfig


class PolicyValueAdam:
    """One Adam for the policy and one for the value network, so that a warm start can hand over the moments of one."""

    def __init__(
        self, theta: Tensor, policy_size: int, lr: Sequence[float], settings: AdamConfig | None = None
    ) -> None:
        self._split = policy_size
        self.policy = Adam.of(theta[:, :policy_size], lr, settings)
        self.value = Adam.of(theta[:, policy_size:], lr, settings)

    def step(self, grad: Tensor, mask: Tensor | None = None, scale: Tensor | None = None) -> None:
        """See ``Adam.step``."""
        self.policy.step(grad[:, : self._split], mask, scale)
        self.value.step(grad[:, self._split :], mask, scale)

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts, under ``policy/`` and ``value/``."""
        return with_prefix("policy", self.policy.state()) | with_prefix("value", self.value.state())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.policy.load_state(strip_prefix("policy", state))
        self.value.load_state(strip_prefix("value", state))


def network_optimiser(model: Model, configs: Sequence[Any]) -> PolicyValueAdam:
    """Return the optimiser that the configs of S runs ask for, of both networks of a model.

    A config without ``optimizer``, as a plugin may have, asks for Adam.
    """
    settings = getattr(configs[0], "optimizer", None)
    return PolicyValueAdam(model.theta, model.policy_size, [config.lr for config in configs], settings)
