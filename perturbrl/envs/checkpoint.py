"""Reading back the tensors of an environment's checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.errors import UserError


def validated_state(template: dict[str, Tensor], state: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return copies of ``state`` on ``device``, with the names, shapes and types of ``template``.

    Raises
    ------
    UserError
        A tensor is missing, or has another shape: that of another task, or of other numbers of runs, cells or features.
    """
    for name, tensor in template.items():
        if name not in state or state[name].shape != tensor.shape:
            shape = tuple(state[name].shape) if name in state else "nothing"
            raise UserError(f"env state {name!r}: expected shape {tuple(tensor.shape)}, found {shape}")
    return {name: state[name].to(device, tensor.dtype, copy=True) for name, tensor in template.items()}
