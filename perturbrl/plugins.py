"""The names that a plugin may use, in one place. Each is loaded at its first use.

``@agent``, ``@sources.register``, ``@encoders.register``, ``@envs.register``, ``@splits.register``,
``@baselines.register`` and ``@metrics.register`` add a choice to the config; ``docs/extend.md`` shows a complete file
of each kind.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perturbrl.agents.common.build import agent as agent
    from perturbrl.agents.common.losses import approx_kl as approx_kl
    from perturbrl.agents.common.losses import clipped_surrogate as clipped_surrogate
    from perturbrl.agents.common.losses import importance_ratio as importance_ratio
    from perturbrl.agents.common.losses import normalise as normalise
    from perturbrl.agents.common.losses import value_loss as value_loss
    from perturbrl.agents.common.recipe import LossRecipe as LossRecipe
    from perturbrl.agents.common.recipe import Recipe as Recipe
    from perturbrl.agents.common.rollout import Rollout as Rollout
    from perturbrl.agents.model.heads import Heads as Heads
    from perturbrl.agents.model.heads import gradient as gradient
    from perturbrl.agents.model.modules import ModuleActorCritic as ModuleActorCritic
    from perturbrl.agents.optim import Adam as Adam
    from perturbrl.agents.optim import TorchOptimiser as TorchOptimiser
    from perturbrl.agents.ppo import PPO as PPO
    from perturbrl.agents.settings.ppo import PPOConfig as PPOConfig
    from perturbrl.agents.settings.trpo import TRPOConfig as TRPOConfig
    from perturbrl.agents.trpo import TRPO as TRPO
    from perturbrl.bounds import Fraction as Fraction
    from perturbrl.bounds import NonNegativeFloat as NonNegativeFloat
    from perturbrl.bounds import NonNegativeInt as NonNegativeInt
    from perturbrl.bounds import Number as Number
    from perturbrl.bounds import OneOf as OneOf
    from perturbrl.bounds import PerRun as PerRun
    from perturbrl.bounds import PositiveFloat as PositiveFloat
    from perturbrl.bounds import PositiveInt as PositiveInt
    from perturbrl.bounds import Probability as Probability
    from perturbrl.data.schema import CellTable as CellTable
    from perturbrl.data.schema import Modality as Modality
    from perturbrl.data.schema import RawCells as RawCells
    from perturbrl.effects.baselines.base import BaselineConfig as BaselineConfig
    from perturbrl.effects.baselines.base import BaselineContext as BaselineContext
    from perturbrl.effects.responses import Responses as Responses
    from perturbrl.effects.responses import trained as trained
    from perturbrl.effects.responses import tuning as tuning
    from perturbrl.envs.base import ActionSpace as ActionSpace
    from perturbrl.envs.base import BatchedEnv as BatchedEnv
    from perturbrl.envs.base import Step as Step
    from perturbrl.envs.paper.continuous import PaperEnv as PaperEnv
    from perturbrl.envs.paper.continuous import PaperEnvConfig as PaperEnvConfig
    from perturbrl.errors import UserError as UserError
    from perturbrl.registry import baselines as baselines
    from perturbrl.registry import encoders as encoders
    from perturbrl.registry import envs as envs
    from perturbrl.registry import metrics as metrics
    from perturbrl.registry import sources as sources
    from perturbrl.registry import splits as splits
    from perturbrl.runner.check_agent import check_agent as check_agent
    from perturbrl.screens.schema import PerturbationTable as PerturbationTable
    from perturbrl.screens.schema import Screen as Screen
    from perturbrl.screens.splits.builder import ScreenSplitConfig as ScreenSplitConfig
    from perturbrl.screens.splits.builder import SplitBuilder as SplitBuilder

HOMES = {
    "agents.common.build": ("agent",),
    "agents.common.losses": ("approx_kl", "clipped_surrogate", "importance_ratio", "normalise", "value_loss"),
    "agents.model.heads": ("Heads", "gradient"),
    "agents.model.modules": ("ModuleActorCritic",),
    "agents.optim": ("Adam", "TorchOptimiser"),
    "agents.ppo": ("PPO",),
    "agents.common.recipe": ("LossRecipe", "Recipe"),
    "agents.common.rollout": ("Rollout",),
    "agents.settings.ppo": ("PPOConfig",),
    "agents.settings.trpo": ("TRPOConfig",),
    "agents.trpo": ("TRPO",),
    "bounds": (
        *("Fraction", "NonNegativeFloat", "NonNegativeInt", "Number", "OneOf", "PerRun", "PositiveFloat"),
        *("PositiveInt", "Probability"),
    ),
    "data.schema": ("CellTable", "Modality", "RawCells"),
    "effects.baselines.base": ("BaselineConfig", "BaselineContext"),
    "effects.responses": ("Responses", "trained", "tuning"),
    "envs.base": ("ActionSpace", "BatchedEnv", "Step"),
    "envs.paper.continuous": ("PaperEnv", "PaperEnvConfig"),
    "errors": ("UserError",),
    "registry": ("baselines", "encoders", "envs", "metrics", "sources", "splits"),
    "runner.check_agent": ("check_agent",),
    "screens.schema": ("PerturbationTable", "Screen"),
    "screens.splits.builder": ("ScreenSplitConfig", "SplitBuilder"),
}
_HOME = {name: f"perturbrl.{module}" for module, names in HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load the module that defines ``name``."""
    if name not in _HOME:
        raise AttributeError(f"module 'perturbrl.plugins' has no name {name!r}; it offers {', '.join(sorted(_HOME))}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the names."""
    return sorted(_HOME)
