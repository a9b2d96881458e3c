"""CUDA graphs: on a GPU a small step takes longer to launch than to compute, so it is recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]
WARM_UPS = 3  # calls in which libraries choose their algorithms and allocate, before anything is recorded


def record(function: Function, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
    """Record ``function(*inputs)`` on the GPU; return what replays it, and the tensors that each replay writes anew."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            function(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function(*inputs)
    return graph.replay, outputs


class Replayed:
    """A function of tensors of fixed shapes that changes ``state`` in place: recorded at the first call, then replayed.

    What it returns is overwritten by the next call.
    """

    def __init__(
        self,
        function: Function,
        state: Sequence[Tensor],
        recorder: Callable[[Function, Sequence[Tensor]], tuple[Callable[[], None], tuple[Tensor, ...]]] = record,
    ) -> None:
        self._function, self._state, self._record = function, tuple(state), recorder
        self._replay: Callable[[], None] | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call the function on ``inputs``."""
        if self._replay is None:
            kept = [tensor.clone() for tensor in self._state]
            self._inputs = [tensor.clone() for tensor in inputs]
            self._replay, self._outputs = self._record(self._function, self._inputs)
            for tensor, before in zip(self._state, kept, strict=True):  # recording has changed it
                tensor.copy_(before)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._replay()
        return self._outputs
