"""Optimisers of S parameter vectors at once (rows of [S, n]); runs are independent."""

from perturbrl.agents.optim.adam import Adam
from perturbrl.agents.optim.networks import (
    Optimiser,
    PolicyValueAdam,
    PolicyValueOptimiser,
    asked,
    network_optimiser,
    part_optimiser,
)
from perturbrl.agents.optim.population import PopulationOptimiser
from perturbrl.agents.optim.state import TorchOptimiser, strip_prefix, with_prefix

__all__ = [
    "Adam",
    "Optimiser",
    "PolicyValueAdam",
    "PolicyValueOptimiser",
    "PopulationOptimiser",
    "TorchOptimiser",
    "asked",
    "network_optimiser",
    "part_optimiser",
    "strip_prefix",
    "with_prefix",
]
