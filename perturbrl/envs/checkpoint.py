"""Reading back the tensors of an environment's checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.errors import UserError


def like(own: dict[str, Tensor], given: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return copies of ``given`` on ``device``, with the names, shapes and types of ``own``.

    Raises
    ------
    UserError
        A tensor is missing, or has another shape: that of another task, or of other numbers of runs, cells or features.
    """
    for name, tensor in own.items():
        if name not in given or given[name].shape != tensor.shape:
            found = tuple(given[name].shape) if name in given else "nothing"
            raise UserError(f"env state {name!r}: expected shape {tuple(tensor.shape)}, found {found}")
    return {name: given[name].to(device, tensor.dtype, copy=True) for name, tensor in own.items()}
