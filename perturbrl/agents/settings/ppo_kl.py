"""The settings of the two-stage method with a KL penalty; meanings stand in ``conf/agent/ppo_kl.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from perturbrl.agents.settings.staged import StagedConfig, budgets
from perturbrl.bounds import OneOf
from perturbrl.config import choice, require

VARIANTS = ("penalty", "released")


@dataclass(frozen=True)
class PPOKLConfig(StagedConfig):
    """Settings of stages of which ``variant`` names the second one."""

    variant: Annotated[str, OneOf(*VARIANTS)]

    @classmethod
    def complete(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """See ``StagedConfig.complete``; raises ``UserError`` for another variant too."""
        variant = choice(str(node.get("variant")), VARIANTS, "agent.variant")
        names = [name for name, _ in budgets(node.get("stages"))]
        message = f"is {variant}, but agent.stages has no ppo_{variant}; its stages are {', '.join(names)}"
        require(f"ppo_{variant}" in names, "agent.variant", message)
        return super().complete(node)
