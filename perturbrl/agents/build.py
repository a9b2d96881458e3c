"""From configs to a learner: how a recipe becomes ``agent=<name>``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from perturbrl.agents.clone import with_clone
from perturbrl.agents.learner import Learner, Stage, same
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.agents.model.heads import Model
from perturbrl.agents.recipe import Recipe
from perturbrl.envs.base import BatchedEnv
from perturbrl.registry import agents
from perturbrl.rng import Streams

R = TypeVar("R", bound=type[Recipe[Any]])


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
        def build(
            configs: Sequence[Any],
            policies: Sequence[PolicyConfig],
            env: BatchedEnv,
            slices: Mapping[str, slice],
            streams: Streams,
        ) -> Learner:
            model = recipe.make_model(policies, env, slices, streams)
            stage = Stage.of(name, configs, recipe(configs, model, streams), streams.device)
            return learner([stage], configs, model, env, streams)

        build.__module__ = recipe.__module__  # where an agent comes from decides what its runs may share
        build.make_model = recipe.make_model  # type: ignore[attr-defined]  # evaluation needs the networks alone
        agents.register(name, schema)(build)
        return recipe

    return register


def learner(
    stages: Sequence[Stage], configs: Sequence[Any], model: Model, env: BatchedEnv, streams: Streams
) -> Learner:
    """Return the learner of some stages, with behaviour cloning before them where the S ``configs`` ask for it."""
    if getattr(configs[0], "clone_steps", 0):
        stages = with_clone(stages, configs, model, env, streams)
    return Learner(model, env, streams, int(same(configs, "rollout_steps")), stages)
