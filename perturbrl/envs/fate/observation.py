"""What a policy sees of a cell: its levels, or the molecules that an assay captures. Letters: N cells, G genes."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.landscape.modalities import LEAK
from perturbrl.mixing import uniforms


def key_of(u: Tensor) -> Tensor:
    """Return keys [N] int64 of 63 bits from uniform numbers ``u`` [N, 3] of 24 bits."""
    words = (u * 2**24).long()
    return words[:, 0] << 39 | words[:, 1] << 15 | words[:, 2] >> 9


def counts(levels: Tensor, key: Tensor, molecules: int, capture: float) -> Tensor:
    """Return log(1 + count) of each gene, [N, G]; ``levels`` [N, G] and ``key`` [N].

    A gene at level x has ``molecules`` that are there with probability leak + (1 - leak) x, at most 1, and each is
    captured with probability ``capture``: binomial counts.
    """
    there = (LEAK + (1 - LEAK) * levels).clamp(max=1) * capture
    slots = torch.arange(levels.shape[1] * molecules, device=levels.device).view(levels.shape[1], molecules)
    draws = uniforms(key[:, None, None], slots)
    return (draws < there[..., None]).sum(-1).float().log1p()
