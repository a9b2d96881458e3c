"""Tensors of optimisers in checkpoints. Letters: S runs, n parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.errors import UserError


class TorchOptimiser:
    """The state of an optimiser of ``torch.optim`` for checkpoints: an entry of ``Recipe.stateful``.

    Its tensors need the leading axis S, as they have where it optimises ``model.theta`` [S, n]. What schedulers change
    is not part of it.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self.optimiser = optimiser

    def state(self) -> dict[str, Tensor]:
        """Return its tensors as ``<number of the parameter>/<name>``; none before the first step."""
        parts = self.optimiser.state_dict()["state"].items()
        return {f"{k}/{name}": x for k, part in parts for name, x in part.items() if isinstance(x, Tensor)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        parts: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            k, _, name = key.partition("/")
            parts.setdefault(int(k), {})[name] = tensor.clone()
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": parts})


def with_prefix(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Put ``prefix/`` before every name."""
    return {f"{prefix}/{name}": tensor for name, tensor in state.items()}


def strip_prefix(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries under ``prefix/``, without it."""
    return {k.removeprefix(f"{prefix}/"): v for k, v in state.items() if k.startswith(f"{prefix}/")}


def copy_into(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Copy a state into the tensors of an optimiser.

    Raises
    ------
    UserError
        The state is that of another optimiser.
    """
    missing = sorted(tensors.keys() - state.keys())
    if missing:
        raise UserError(
            f"optimizer: the state of another optimiser cannot be taken over (it has no {' and no '.join(missing)}); "
            "choose the same optimizer for both stages, or hand over parameters alone"
        )
    for name, tensor in tensors.items():
        tensor.copy_(state[name])
