"""PPO -> TRPO, the arm "TRPO_from_PPO" of the README of arXiv 2510.13018: ``staged`` with other stages in its YAML."""

from __future__ import annotations

from perturbrl.agents.settings.staged import StagedConfig
from perturbrl.agents.staged import build
from perturbrl.registry import agents

agents.register("trpo_from_ppo", StagedConfig)(build)
