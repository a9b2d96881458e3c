"""From configs to a learner: how a recipe becomes ``agent=<name>``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from perturbrl.agents.common.clone import with_clone
from perturbrl.agents.common.learner import Learner, Stage, same
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.agents.model.heads import Model
from perturbrl.envs.base import BatchedEnv
from perturbrl.registry import agents
from perturbrl.rng import Streams

R = TypeVar("R", bound=type[Recipe[Any]])
Stages = Callable[[Sequence[Any], Model, Streams], list[Stage]]


def agent(name: str, schema: type[Any]) -> Callable[[R], R]:
    """Register the decorated recipe as ``agent=<name>``, an agent of one stage.

    Parameters
    ----------
    name
        The choice; ``conf/agent/<name>.yaml`` has its defaults.
    schema
        A frozen dataclass to which the config is bound. It needs ``name``, ``total_steps``, ``rollout_steps``,
        ``n_envs`` and ``gamma``.

    Returns
    -------
    Callable
        The decorator; it returns the recipe unchanged.
    """

    def register(recipe: R) -> R:
        def stages(configs: Sequence[Any], model: Model, streams: Streams) -> list[Stage]:
            return [Stage.of(name, configs, recipe(configs, model, streams), streams.device)]

        build = _register(name, schema, stages, recipe.make_model, recipe.__module__)
        build.recipe = recipe  # type: ignore[attr-defined]  # what makes it a stage of other agents
        return recipe

    return register


def staged_agent(name: str, schema: type[Any]) -> Callable[[Stages], Stages]:
    """Register the decorated function as ``agent=<name>``, an agent of several stages on the built-in networks.

    The function maps the configs of S runs, their networks and their random numbers to stages; see ``agent``.
    """

    def register(stages: Stages) -> Stages:
        _register(name, schema, stages, Recipe.make_model, stages.__module__)
        return stages

    return register


def _register(
    name: str, schema: type[Any], stages: Stages, make_model: Callable[..., Model], module: str
) -> Callable[..., Learner]:
    def build(
        configs: Sequence[Any],
        policies: Sequence[PolicyConfig],
        env: BatchedEnv,
        slices: Mapping[str, slice],
        streams: Streams,
    ) -> Learner:
        model = make_model(policies, env, slices, streams)
        made = stages(configs, model, streams)
        return learner(made, made[0].recipe.configs, model, env, streams)  # type: ignore[attr-defined]

    build.__module__ = module  # where an agent comes from decides what its runs may share
    build.make_model = make_model  # type: ignore[attr-defined]  # evaluation needs the networks alone
    return agents.register(name, schema)(build)


def learner(
    stages: Sequence[Stage], configs: Sequence[Any], model: Model, env: BatchedEnv, streams: Streams
) -> Learner:
    """Return the learner of some stages, with behaviour cloning before them where the S ``configs`` ask for it."""
    if getattr(configs[0], "clone_steps", 0):
        stages = with_clone(stages, configs, model, env, streams)
    return Learner(model, env, streams, int(same(configs, "rollout_steps")), stages)
