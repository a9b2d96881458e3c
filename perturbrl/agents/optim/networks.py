"""The optimiser of the networks of S runs, as their configs ask for it. Letters: S runs, n parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from perturbrl.agents.model.heads import Model
from perturbrl.agents.optim.adam import Adam
from perturbrl.agents.optim.population import PopulationOptimiser
from perturbrl.agents.optim.state import strip_prefix, with_prefix
from perturbrl.optim.settings import AdamConfig, OptimizerConfig

PARTS = ("policy", "value")


class Optimiser(Protocol):
    """Steps S rows of parameters; ``Adam`` or ``PopulationOptimiser``."""

    def step(self, grad: Tensor, mask: Tensor | None = None, scale: Tensor | None = None) -> None:
        """See ``Adam.step``."""
        ...

    def optimiser_log(self) -> dict[str, Tensor]:
        """Return what a log should say of the steps since the last call, each [S]."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the tensors for a checkpoint, each with a leading axis S."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        ...


class PolicyValueOptimiser:
    """One optimiser for the policy and one for the value network, so that a warm start can hand over one's moments."""

    def __init__(self, policy: Optimiser, value: Optimiser, policy_size: int) -> None:
        self.policy, self.value, self._split = policy, value, policy_size

    def step(self, grad: Tensor, mask: Tensor | None = None, scale: Tensor | None = None) -> None:
        """See ``Adam.step``."""
        self.policy.step(grad[:, : self._split], mask, scale)
        self.value.step(grad[:, self._split :], mask, scale)

    def optimiser_log(self) -> dict[str, Tensor]:
        """Return what a log should say of the steps of both since the last call, each [S]."""
        return self.policy.optimiser_log() | self.value.optimiser_log()

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts, under ``policy/`` and ``value/``."""
        return with_prefix("policy", self.policy.state()) | with_prefix("value", self.value.state())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.policy.load_state(strip_prefix("policy", state))
        self.value.load_state(strip_prefix("value", state))


class PolicyValueAdam(PolicyValueOptimiser):
    """Adam for both; the only one whose steps the fused kernels take."""

    policy: Adam
    value: Adam

    def __init__(
        self, theta: Tensor, policy_size: int, lr: Sequence[float], settings: AdamConfig | None = None
    ) -> None:
        policy, value = (Adam.of(part, lr, settings) for part in (theta[:, :policy_size], theta[:, policy_size:]))
        super().__init__(policy, value, policy_size)


def network_optimiser(model: Model, configs: Sequence[Any]) -> PolicyValueOptimiser:
    """Return the optimiser that the configs of S runs ask for, of both networks of a model.

    A config without ``optimizer``, as a plugin may have, asks for Adam.
    """
    lr, settings = [config.lr for config in configs], asked(configs)
    if settings is None or isinstance(settings, AdamConfig):
        return PolicyValueAdam(model.theta, model.policy_size, lr, settings)
    policy, value = (part_optimiser(model, part, lr, settings) for part in PARTS)
    return PolicyValueOptimiser(policy, value, model.policy_size)


def part_optimiser(model: Model, part: str, lr: Sequence[float], settings: OptimizerConfig | None) -> Optimiser:
    """Return an optimiser of one network of a model.

    Parameters
    ----------
    model
        The networks of S runs.
    part
        ``policy`` or ``value``.
    lr
        Learning rate of each run, S numbers.
    settings
        ``agent.optimizer``; None: Adam with its defaults.
    """
    start, stop = (0, model.policy_size) if part == "policy" else (model.policy_size, model.theta.shape[1])
    theta = model.theta[:, start:stop]
    if settings is None or isinstance(settings, AdamConfig):
        return Adam.of(theta, lr, settings)
    inside = [c for c in model.parameter_columns() if start <= c.start and c.stop <= stop]
    columns = [slice(c.start - start, c.stop - start) for c in inside]
    return PopulationOptimiser(theta, lr, settings, columns, part)


def asked(configs: Sequence[Any]) -> OptimizerConfig | None:
    """Return the settings of the optimiser that the configs of S runs share, if they have any."""
    settings: OptimizerConfig | None = getattr(configs[0], "optimizer", None)
    assert all(getattr(config, "optimizer", None) == settings for config in configs), "optimizer differs"
    return settings
