"""The tensors that a checkpoint keeps of an environment."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.errors import UserError


class Checkpointed:
    """``state`` and ``load_state`` of an environment whose episodes run in step.

    ``saved`` lists names of tensors; the environment holds each under the name with an underscore before it. The clock
    ``_t``, a number of the host, is saved as ``t`` [].
    """

    saved: tuple[str, ...]
    device: torch.device
    _t: int

    def state(self) -> dict[str, Tensor]:
        """Return copies of the clock and of the saved tensors."""
        return {"t": torch.tensor(self._t), **{name: getattr(self, f"_{name}").clone() for name in self.saved}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what ``state()`` returned.

        Raises
        ------
        UserError
            A tensor is missing, or has another shape: that of another task, or of other numbers of runs, cells or
            features.
        """
        expected = self.state()
        for name, tensor in expected.items():
            if name not in state or state[name].shape != tensor.shape:
                shape = tuple(state[name].shape) if name in state else "nothing"
                raise UserError(f"env state {name!r}: expected shape {tuple(tensor.shape)}, found {shape}")
        self._t = int(state["t"])
        for name in self.saved:
            setattr(self, f"_{name}", state[name].to(self.device, expected[name].dtype, copy=True))
