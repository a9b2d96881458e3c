"""States of a Boolean network as whole numbers: the genes are binary digits, the first gene the highest.

Letters: G genes, at most 62.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pack(state: Tensor) -> Tensor:
    """Return the number of each state, [...] int64; ``state`` is [..., G] of 0 and 1."""
    number = torch.zeros(state.shape[:-1], dtype=torch.int64, device=state.device)
    for gene in state.unbind(-1):
        number.bitwise_left_shift_(1).add_(gene)
    return number


def unpack(number: Tensor, n_genes: int) -> Tensor:
    """Return the states [..., G] uint8 that have the numbers ``number`` [...]; the inverse of ``pack``."""
    state = torch.empty(*number.shape, n_genes, dtype=torch.uint8, device=number.device)
    for g in range(n_genes):
        state[..., g] = number >> (n_genes - 1 - g) & 1
    return state
