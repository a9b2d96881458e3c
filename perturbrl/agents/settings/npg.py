"""The settings of the natural policy gradient; meanings, units and defaults stand in ``conf/agent/npg.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl.agents.settings.trpo import NaturalConfig


@dataclass(frozen=True)
class NPGConfig(NaturalConfig):
    """Settings of the natural policy gradient: those of TRPO without its line search."""
