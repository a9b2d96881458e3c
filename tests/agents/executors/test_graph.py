from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.agents.executors.graph import GraphSteps, Replayed

from ..helpers import make_learner


def record(function, inputs):
    """A GPU's recorder on the CPU: warms up, then writes results over the same tensors at each replay."""
    for _ in range(3):
        function(*inputs)
    outputs = tuple(tensor.clone() for tensor in function(*inputs))

    def replay() -> None:
        for own, new in zip(outputs, function(*inputs), strict=True):
            own.copy_(new)

    return replay, outputs


def test_recording_leaves_no_trace_and_replays_see_new_inputs() -> None:
    state = torch.zeros(2)

    def add(x: Tensor) -> tuple[Tensor]:
        state.add_(x)
        return (state * 10,)

    replayed = Replayed(add, [state], record)
    for x, total in ((1.0, 1.0), (2.0, 3.0), (5.0, 8.0)):
        (found,) = replayed(torch.full((2,), x))
        assert found.tolist() == [10 * total] * 2 and state.tolist() == [total] * 2


def test_ppo_learns_the_same_through_a_recorder() -> None:
    """Another way through the same steps: parameters, moments and clocks must not feel the recording."""
    plain, recorded = (make_learner("ppo", [3, 1], agent={"ent_coef": 0.01}) for _ in range(2))
    recipe = recorded.stages[0].recipe
    changed = [recorded.model.theta, recorded.model.grad, *recipe.state().values()]
    recipe.executor = GraphSteps(recipe.step, recipe.c.minibatch, changed, record)
    for learner in (plain, recorded):
        logs = [learner.iterate(i) for i in range(2)]
    torch.testing.assert_close(plain.model.theta, recorded.model.theta)
    kept, own = plain.state(), recorded.state()
    for name in kept:
        torch.testing.assert_close(kept[name], own[name], equal_nan=True, msg=name)
    assert {"approx_kl", "value_loss", "entropy"} <= logs[1].keys()
