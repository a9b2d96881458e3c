"""Follow a flow from its start to a cell."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def follow(velocity: Callable[[Tensor, float], Tensor], x: Tensor, steps: int, method: str) -> Tensor:
    """Integrate dx/dt = ``velocity(x, t)`` from t = 0 to 1 in ``steps`` equal steps.

    ``euler`` evaluates once a step, ``heun`` (the trapezoidal rule with Euler's prediction) twice.
    """
    size = 1.0 / steps
    for k in range(steps):
        v = velocity(x, k * size)
        if method == "heun":
            v = (v + velocity(x + size * v, (k + 1) * size)) / 2
        x = x + size * v
    return x
