"""Multi-stage LoRA: a trained policy is adapted to another task, in stages that train more and more of it.

The method that the authors of arXiv 2510.13018 name beside it, in the usual parametrisation W = W0 + (alpha / r) B A
of Hu et al. 2021 (arXiv 2106.09685, eq. 3). ``convex``: A is a fixed random projection and B, from 0, is trained; every
adapted layer is linear in B. ``nonconvex``: A and B are trained. ``full``: the merged networks are trained. The update
of each stage is PPO's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from perturbrl.agents.common.build import staged_agent
from perturbrl.agents.common.learner import Stage, same
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.adapters import Adapted
from perturbrl.agents.model.heads import Model
from perturbrl.agents.ppo import PPO
from perturbrl.agents.settings.lora import LoRAConfig
from perturbrl.agents.settings.ppo import PPOConfig
from perturbrl.rng import Streams


class AdapterPPO(PPO):
    """PPO on adapters: gradient, limit of its norm and Adam are of A and B. Rollouts come from the merged networks."""

    model: Adapted

    def __init__(self, configs: Sequence[PPOConfig], model: Adapted, streams: Streams) -> None:
        super().__init__(configs, model, streams)
        self.stateful = self.stateful | {"adapters": model}

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Improve the adapters, then merge them: what collects, is logged and saved are ordinary networks."""
        log = super().update(batch, iteration)
        with torch.no_grad():
            self.model.merge()
        return log


@staged_agent("lora", LoRAConfig)
def stages(configs: Sequence[LoRAConfig], model: Model, streams: Streams) -> list[Stage]:
    """Return the stages that have steps; each starts from what the one before has reached."""
    assert isinstance(model, ActorCritic)
    plan, alpha = same(configs, "plan"), [c.alpha for c in configs]
    convex, nonconvex = (Adapted(model, plan, alpha, streams.seeds, trains_a) for trains_a in (False, True))

    def on(adapted: Adapted, name: str) -> Stage:
        of_stage = [c.ppo(name) for c in configs]
        return Stage.of(name, of_stage, AdapterPPO(of_stage, adapted, streams), streams.device)

    steps = configs[0].stage_steps()
    first = dataclasses.replace(on(convex, "convex"), begin=convex.begin)  # W0: the pretrained networks
    take_over = (lambda: nonconvex.take_over(convex)) if steps["convex"] else nonconvex.begin
    second = dataclasses.replace(on(nonconvex, "nonconvex"), begin=take_over)
    of_full = [c.ppo("full") for c in configs]
    third = Stage.of("full", of_full, PPO(of_full, model, streams), streams.device)
    return [stage for stage in (first, second, third) if steps[stage.name]]
