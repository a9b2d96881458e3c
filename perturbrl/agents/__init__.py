"""Agents: importing this package registers them all."""

from perturbrl.agents import ppo, trpo, trpo_ppo

__all__ = ["ppo", "trpo", "trpo_ppo"]
