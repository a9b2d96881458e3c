"""How the minibatch steps of a recipe are executed; ``choose`` is the one place that decides.

``torch``: one step after another, as the recipe's page says. ``native``: an epoch of steps in one call of the C
kernels, for PPO's own step on Gaussian policies. ``graph``: a step recorded as a CUDA graph and replayed.
"""

from __future__ import annotations

from typing import Any

import torch

from perturbrl.agents import kernels
from perturbrl.agents.common.critic import Critic
from perturbrl.agents.executors.graph import GraphSteps
from perturbrl.agents.executors.native import NativePPO
from perturbrl.agents.executors.plain import Executor, PlainSteps
from perturbrl.agents.model.actor_critic import ActorCritic, PolicyConfig
from perturbrl.agents.model.heads import Model
from perturbrl.agents.optim import PolicyValueAdam
from perturbrl.envs.base import ActionSpace

STEP = ("step", "loss", "objective", "surrogate", "descend")


def choose(recipe: Any, ppo: type[Any]) -> Executor:
    """Return what takes the steps of a recipe that is ``ppo`` or derived from it.

    A subclass that replaces a step or its loss runs step by step in torch, and a sentence in ``recipe.notes`` says so.
    Native steps are those of Adam. A target KL also needs single steps, because each step decides which runs take the
    next one.

    Parameters
    ----------
    recipe
        A PPO with ``model``, ``adam`` and settings ``c``; its ``notes`` may get a sentence more.
    ppo
        The class whose own step and loss the kernels compute.

    Returns
    -------
    Executor
        Its ``name`` is ``torch``, ``native`` or ``graph``.
    """
    model, c = recipe.model, recipe.c
    optimizer = "" if isinstance(recipe.adam, PolicyValueAdam) else recipe.configs[0].optimizer.name
    replaced = [name for name in STEP if getattr(type(recipe), name) is not getattr(ppo, name)]
    fastest = fastest_for(model)
    if replaced and fastest != PlainSteps.name:
        names = " and ".join(replaced)
        recipe.notes += (f"{type(recipe).__name__} replaces {names} of PPO: its steps run one by one in torch",)
    if optimizer and fastest == NativePPO.name:
        recipe.notes += (f"optimizer={optimizer}: steps run one by one in torch, the native kernels know adam only",)
        fastest = PlainSteps.name
    if replaced or c.target_kl is not None or fastest == PlainSteps.name:
        return PlainSteps(recipe.step, c.minibatch)
    if fastest == NativePPO.name:
        rates = (c.clip, c.vf_coef, c.ent_coef, c.max_grad_norm)
        return NativePPO(model, recipe.adam, c.minibatch, recipe.objective, *rates)
    return GraphSteps(recipe.step, c.minibatch, [model.theta, model.grad, *recipe.state().values()])


def fastest_for(model: Model) -> str:
    """Return the name of the fastest executor that PPO's own steps on these networks can have."""
    if NativePPO.fits(model):
        return NativePPO.name
    return GraphSteps.name if model.theta.is_cuda else PlainSteps.name


def available() -> dict[str, str]:
    """Return the executors of PPO and TRPO on this machine, by what they execute.

    They hold for the default settings: ``device=auto``, ``kernels=auto``, ``precision=float32``, the network ``trunk``
    and continuous actions. Tiny networks are built and asked; nothing is trained.
    """
    with kernels.using("auto", "float32"):
        space = ActionSpace("box", 2, -1.0, 1.0)
        model = ActorCritic(PolicyConfig("trunk", [4], "tanh", 0.0), 2, {"x": slice(0, 2)}, space, 1)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model.theta, model.grad = model.theta.to(device), model.grad.to(device)
        critic = Critic(model, [1e-3], 2).executor_name
    return {"PPO's steps": fastest_for(model), "TRPO's step": PlainSteps.name, "TRPO's critic": critic}


__all__ = ["Executor", "GraphSteps", "NativePPO", "PlainSteps", "available", "choose", "fastest_for"]
