"""Stages composed: agents of one stage that train the same networks, one after another.

``agent=staged agent.stages=[trpo:10k,ppo:40k]``. TRPO -> PPO in two stages is ``trpo_ppo``, the proposed method of
arXiv 2510.13018.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from perturbrl.agents.common.build import learner
from perturbrl.agents.common.learner import Learner, Stage
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.common.stages import chained
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.agents.model.heads import Model
from perturbrl.agents.settings.staged import StagedConfig
from perturbrl.config import require
from perturbrl.envs.base import BatchedEnv
from perturbrl.registry import agents
from perturbrl.rng import Streams


@agents.register("staged", StagedConfig)
def build(
    configs: Sequence[StagedConfig],
    policies: Sequence[PolicyConfig],
    env: BatchedEnv,
    slices: Mapping[str, slice],
    streams: Streams,
) -> Learner:
    """Return a learner whose stages, budgets and handover are those of the configs of S runs."""
    budgets = configs[0].budgets
    recipes = {name: agents[name].build.recipe for name, _ in budgets}  # type: ignore[attr-defined]
    model: Model = _builder(recipes).make_model(policies, env, slices, streams)
    stages = []
    for name, steps in budgets:
        own = [getattr(config, name) for config in configs]
        stage = Stage.of(name, own, recipes[name](own, model, streams), streams.device)
        stages.append(dataclasses.replace(stage, total_steps=steps))
    first = [getattr(config, budgets[0][0]) for config in configs]
    return learner(chained(stages, model, configs[0].handover), first, model, env, streams)


def _builder(recipes: Mapping[str, type[Recipe[Any]]]) -> type[Recipe[Any]]:
    """Return the recipe that builds the networks: the one that has networks of its own, if there is one."""
    usual = Recipe.make_model.__func__  # type: ignore[attr-defined]
    own = {name: r for name, r in recipes.items() if r.make_model.__func__ is not usual}  # type: ignore[attr-defined]
    alike = len({recipe.make_model.__func__ for recipe in own.values()}) <= 1  # type: ignore[attr-defined]
    require(alike, "agent.stages", f"{' and '.join(own)} have networks of their own; stages train the same networks")
    return next(iter(own.values()), Recipe)
