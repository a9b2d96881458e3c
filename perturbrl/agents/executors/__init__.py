"""How the minibatch steps of a recipe are executed; ``choose`` is the one place that decides.

``torch``: one step after another, as the recipe's page says. ``native``: an epoch of steps in one call of the C
kernels, for PPO's own step on Gaussian policies. ``graph``: a step recorded as a CUDA graph and replayed.
"""

from __future__ import annotations

from typing import Any

from perturbrl.agents.executors.graph import GraphSteps
from perturbrl.agents.executors.native import NativePPO
from perturbrl.agents.executors.plain import Executor, PlainSteps

STEP = ("step", "loss", "objective")


def choose(recipe: Any, ppo: type[Any]) -> Executor:
    """Return what takes the steps of a recipe that is ``ppo`` or derived from it.

    A subclass that replaces a step or its loss runs step by step, and a note says so. So does a target KL, which
    decides at each step which runs take the next.
    """
    model, c = recipe.model, recipe.c
    replaced = [name for name in STEP if getattr(type(recipe), name) is not getattr(ppo, name)]
    native, on_gpu = NativePPO.fits(model), model.theta.is_cuda
    if replaced or c.target_kl is not None:
        if replaced and (native or on_gpu):
            names = " and ".join(replaced)
            recipe.notes += (f"{type(recipe).__name__} replaces {names} of PPO: its steps run one by one in torch",)
        return PlainSteps(recipe.step, c.minibatch)
    if native:
        rates = (c.clip, c.vf_coef, c.ent_coef, c.max_grad_norm)
        return NativePPO(model, recipe.adam, c.minibatch, recipe.objective, *rates)
    if on_gpu:
        return GraphSteps(recipe.step, c.minibatch, [model.theta, model.grad, *recipe.state().values()])
    return PlainSteps(recipe.step, c.minibatch)


__all__ = ["Executor", "GraphSteps", "NativePPO", "PlainSteps", "choose"]
