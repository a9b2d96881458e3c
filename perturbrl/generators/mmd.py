"""Maximum mean discrepancy of two samples. Letters: m cells of a sample, G genes."""

from __future__ import annotations

import torch
from torch import Tensor

SCALES = (0.5, 1.0, 2.0, 4.0)


def mmd(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased squared MMD of samples ``x`` and ``y`` [..., m, G] of m >= 2 cells, [...].

    The mean over four Gaussian kernels exp(-d^2 / (2 s b)), s in ``SCALES``, b the median squared distance of two
    different cells of ``y``, as scDFM's loss has it.
    """
    xx, yy, xy = _squares(x, x), _squares(y, y), _squares(x, y)
    m = x.shape[-2]
    different = ~torch.eye(m, dtype=torch.bool, device=x.device)
    bandwidth = yy[..., different].median(-1).values.clamp(min=1e-12)[..., None, None]
    total = torch.zeros(x.shape[:-2], dtype=x.dtype, device=x.device)
    for scale in SCALES:
        kxx, kyy, kxy = (torch.exp(-d / (2 * scale * bandwidth)) for d in (xx, yy, xy))
        within = ((kxx + kyy) * different).sum((-2, -1)) / (m * (m - 1))
        total = total + within - 2 * kxy.mean((-2, -1))
    return total / len(SCALES)


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Return squared distances of rows, [..., m, m]."""
    square = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2) - 2 * a @ b.mT
    return square.clamp(min=0.0)
