"""How much arithmetic a step takes at least, counted from the sizes of the layers: multiply and add are 2 FLOP.

A layer of I inputs and O outputs costs 2 I O a row forward, 2 I O for the gradient of its weights, and 2 I O for that
of its input, which the first layer does not need. Biases, tanh, Adam and the environment are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from harness import Settings


def forward(sizes: Sequence[int]) -> int:
    return 2 * sum(i * o for i, o in pairwise(sizes))


def backward(sizes: Sequence[int]) -> int:
    """vjp without the gradient of the input; a jvp of the parameters, without a change of the input, costs as much."""
    return 2 * forward(sizes) - 2 * sizes[0] * sizes[1]


def networks(s: Settings) -> tuple[list[int], list[int]]:
    return [s.features, *s.hidden, s.features], [s.features, *s.hidden, 1]


def rollout(s: Settings) -> int:
    """The policy acts, the value network judges: once a step."""
    policy, value = networks(s)
    return forward(policy) + forward(value)


def ppo(s: Settings) -> int:
    policy, value = networks(s)
    epoch = sum(forward(n) + backward(n) for n in (policy, value))
    return rollout(s) + s.epochs * epoch


def trpo(s: Settings) -> int:
    """Gradient, ``cg_iterations`` exact Fisher-vector products (jvp, vjp), one try of the line search, the critic."""
    policy, value = networks(s)
    natural = forward(policy) + backward(policy) + s.cg_iterations * 2 * backward(policy) + forward(policy)
    return rollout(s) + natural + s.epochs * (forward(value) + backward(value))


def a2c(s: Settings) -> int:
    """One pass over the rollout."""
    return rollout(s) + sum(forward(n) + backward(n) for n in networks(s))


def sac(s: Settings) -> int:
    """One gradient step for each step, as ``conf/agent/sac.yaml`` has it, and the policy that acts.

    The policy after and in the state, the latter differentiated; both critics in targets, fitted, and asked by the
    policy, which needs the gradient of the action alone.
    """
    policy, critic = [s.features, *s.hidden, 2 * s.features], [2 * s.features, *s.hidden, 1]
    pulled_input = forward(critic) - 2 * s.features * s.hidden[0]
    critics = 2 * (3 * forward(critic) + backward(critic) + pulled_input)
    return forward(policy) + SAC_MINIBATCH * (2 * forward(policy) + backward(policy) + critics)


SAC_MINIBATCH = 256
PER_STEP = {"ppo": ppo, "trpo": trpo, "a2c": a2c, "sac": sac}
