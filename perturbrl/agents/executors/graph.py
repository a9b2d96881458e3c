"""CUDA graphs: on a GPU a small step takes longer to launch than to compute, so it is recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.executors.plain import Epoch, Step, stacked

Function = Callable[..., tuple[Tensor, ...]]
Recorder = Callable[[Function, Sequence[Tensor]], tuple[Callable[[], None], tuple[Tensor, ...]]]
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

    def __init__(self, function: Function, state: Sequence[Tensor], recorder: Recorder = record) -> None:
        self._function, self._state, self._record = function, tuple(state), recorder
        self._replay: Callable[[], None] | None = None
        self._inputs: list[Tensor] = []
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Call the function on ``inputs``."""
        if self._replay is None:
            before = [tensor.clone() for tensor in self._state]
            self._inputs = [tensor.clone() for tensor in inputs]
            self._replay, self._outputs = self._record(self._function, self._inputs)
            for tensor, value in zip(self._state, before, strict=True):  # recording has changed it
                tensor.copy_(value)
        for buffer, value in zip(self._inputs, inputs, strict=True):
            buffer.copy_(value)
        self._replay()
        return self._outputs


class GraphSteps:
    """A step recorded once and replayed for every minibatch; ``state`` are the tensors that it changes."""

    name = "graph"

    def __init__(self, step: Step, minibatch: int, state: Sequence[Tensor], recorder: Recorder = record) -> None:
        self._minibatch = minibatch
        self._keys: tuple[str, ...] = ()

        def recorded(*fields: Tensor) -> tuple[Tensor, ...]:
            log, _ = step(Rollout(*fields), None)
            self._keys = tuple(log)
            return tuple(log.values())

        self._replayed = Replayed(recorded, state, recorder)

    def epoch(self, batch: Rollout, active: Tensor | None, logged: bool) -> Epoch:
        """See ``Executor``; a mask cannot be recorded, so there must be none."""
        assert active is None
        logs: list[Log] = []
        for part in batch.minibatches(self._minibatch):
            values = self._replayed(*part.fields())
            if logged:
                logs.append({key: value.clone() for key, value in zip(self._keys, values, strict=True)})
        return stacked(logs) if logged else {}, active
