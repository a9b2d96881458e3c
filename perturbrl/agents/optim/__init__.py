"""Optimisers of S parameter vectors at once (rows of [S, n]); runs are independent."""

from perturbrl.agents.optim.adam import Adam
from perturbrl.agents.optim.networks import PolicyValueAdam, network_optimiser
from perturbrl.agents.optim.state import TorchOptimiser, strip_prefix, with_prefix

__all__ = ["Adam", "PolicyValueAdam", "TorchOptimiser", "network_optimiser", "strip_prefix", "with_prefix"]
