"""How networks and optimisers are described to the kernels: where the numbers are stored and what they mean."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

LINE = 16  # floats of a cache line
Views = list[tuple[Tensor, Tensor]]
ACTIVATIONS = {"identity": 0, "tanh": 1, "relu": 2}  # the numbers of kernels.h


def followed(*tensors: Tensor) -> bool:
    """Whether autograd records what is computed from one of these tensors."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


class CChain(ctypes.Structure):
    """The struct ``chain`` of kernels.h."""

    _fields_ = (
        ("layers", ctypes.c_long),
        ("values", ctypes.c_long),
        ("sizes", ctypes.POINTER(ctypes.c_long)),
        ("pitches", ctypes.POINTER(ctypes.c_long)),
        ("activations", ctypes.POINTER(ctypes.c_int)),
    )


@dataclass(frozen=True)
class Chain:
    """Layers y = activation(x W + b): layer l takes ``sizes[l]`` numbers to ``sizes[l + 1]``.

    Its W [I, O] and then b [O] stand row after row from column ``start`` on. An activation is ``identity``, ``tanh`` or
    ``relu``.
    """

    start: int
    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    _cached: list[tuple[Tensor, Views]] = field(default_factory=list, compare=False, repr=False)

    @cached_property
    def stop(self) -> int:
        """The first column after the last parameter."""
        return self.start + sum((i + 1) * o for i, o in zip(self.sizes, self.sizes[1:], strict=False))

    @cached_property
    def pitches(self) -> tuple[int, ...]:
        """Floats from one row of a layer's values to the next, in the native kernels.

        Rows a multiple of a large power of two apart would share a few sets of the cache. The last layer's values are
        dense.
        """
        *hidden, last = self.sizes[1:]
        whole = [-(-width // LINE) * LINE for width in hidden]
        return (*(width + LINE * (width % (4 * LINE) == 0) for width in whole), last)

    @cached_property
    def n_values(self) -> int:
        """Floats that hold all layers' values for one row of a batch, in the native kernels."""
        return sum(self.pitches)

    def split_values(self, values: Tensor) -> list[Tensor]:
        """Return the values of each layer, [S, M, O], of what the native kernels wrote, [S, M * n_values]."""
        rows = values.shape[1] // self.n_values
        parts = torch.split(values, [rows * pitch for pitch in self.pitches], 1)
        widths = zip(parts, self.pitches, self.sizes[1:], strict=True)
        return [part.view(-1, rows, pitch)[..., :width] for part, pitch, width in widths]

    @cached_property
    def as_c(self) -> CChain:
        """The chain as the C code reads it; it lives as long as this object."""
        layers = len(self.activations)
        sizes, pitches = (ctypes.c_long * (layers + 1))(*self.sizes), (ctypes.c_long * layers)(*self.pitches)
        activations = (ctypes.c_int * layers)(*(ACTIVATIONS[name] for name in self.activations))
        return CChain(layers, self.n_values, sizes, pitches, activations)

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """The columns of W and of b of each layer."""
        out, at = [], self.start
        for i, o in zip(self.sizes, self.sizes[1:], strict=False):
            middle, end = at + i * o, at + (i + 1) * o
            out += [slice(at, middle), slice(middle, end)]
            at = end
        return tuple(out)

    def views(self, flat: Tensor) -> Views:
        """W [S, I, O] and b [S, 1, O] of each layer within ``flat`` [S, n]."""
        for tensor, cached in self._cached:
            if tensor is flat and not followed(flat):  # cached views are no part of a graph
                return cached
        views, at = [], self.start
        for i, o in zip(self.sizes, self.sizes[1:], strict=False):
            middle, end = at + i * o, at + (i + 1) * o
            views.append((flat[:, at:middle].view(-1, i, o), flat[:, middle:end].unsqueeze(1)))
            at = end
        return views

    def cache_views(self, flat: Tensor) -> None:
        """Keep the views of a tensor [S, n] that will be used again and again (parameters, their gradient)."""
        self._cached.append((flat, self.views(flat)))


@dataclass(frozen=True)
class Moments:
    """State of Adam for S runs: ``m``, ``v`` [S, k] contiguous, ``t`` (steps) and ``lr`` [S]; beta1, beta2, eps."""

    m: Tensor
    v: Tensor
    t: Tensor
    lr: Tensor
    betas_eps: tuple[float, float, float]


@dataclass(frozen=True)
class Metric:
    """The Hessian F of a policy's mean KL; its products are multiplied by ``scale``, and get ``damping`` [S, 1] on top.

    Of a Gaussian ``of`` is 1 / variance [S, A], and F is 2 in each of ``n_log_std`` parameters; of a categorical ``of``
    are its probabilities [S, M, A].
    """

    of: Tensor
    categorical: bool
    n_log_std: int
    scale: float
    damping: Tensor
