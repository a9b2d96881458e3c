"""TRPO, then PPO with a KL penalty: the two-stage method that the abstract of arXiv 2510.13018 v2 states.

``staged`` with two stages: ``trpo``, and ``ppo_penalty`` with TRPO's own KL as its target. With
``agent.variant=released`` the second stage is ``ppo_released``, what the released code does, from the same start.
"""

from __future__ import annotations

from perturbrl.agents.settings.ppo_kl import PPOKLConfig
from perturbrl.agents.staged import build
from perturbrl.registry import agents

agents.register("ppo_kl", PPOKLConfig)(build)
