"""What training and ``perturbrl evaluate`` need of a protocol: ``registry.protocols[name].build(config)`` is a Scoring.

Training asks for a ``Curve``, ``perturbrl evaluate`` for an ``Evaluation``. Letters: S runs trained together,
P conditions of the screen, G genes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.evaluate.actions import Act, PopulationAct
from perturbrl.generators.cells import CellGenerator

INFO = (
    *("name", "source", "data", "env", "agent", "variant", "policy", "schedule", "preset", "encoder", "seed"),
    *("steps", "status"),
)
"""What a summary repeats of ``run.json``."""

Simulated = Callable[[int], NDArray[np.float64]]
"""Of simulated cells: the mean of so many fresh cells of each condition of the screen, [P, G]."""


class Curve(Protocol):
    """Scores of deterministic policies along training; ``names`` become columns ``eval/<name>`` of the progress."""

    names: Sequence[str]

    def at(self, act: PopulationAct | CellGenerator) -> dict[str, Tensor]:
        """Return each of ``names`` for S policies, or for a generator of cells in their place, [S]."""
        ...


class Evaluation(Protocol):
    """Scores runs on the same cells, task and protocol. It holds what they share, such as rows that need no policy."""

    def evaluate(
        self, policy: Act | CellGenerator | None, run: Mapping[str, Any], folder: Path, predictions: Path | None
    ) -> None:
        """Score one policy or generator (None: it diverged) and write ``folder``.

        ``run`` is the content of ``run.json``, and ``claims`` as the run was trained with (None: not known);
        ``predictions`` is a file of another program's predictions, which get a row of their own.

        Raises
        ------
        UserError
            Something does not fit, or a file cannot be written.
        """
        ...


class Scoring(Protocol):
    """How runs are scored. ``table`` is what the split makes of the cells: a CellTable or a PerturbationTable."""

    def check(self, env_config: Any, split_config: Any) -> None:
        """Raise ``UserError`` where the protocol does not fit the task or the kind of split."""
        ...

    def curve(self, env_configs: Sequence[Any], table: Any, device: torch.device) -> Curve:
        """Return the learning curve of S runs with these environments."""
        ...

    def evaluation(self, table: Any, env_config: Any, simulated: Simulated | None) -> Evaluation:
        """Return what scores runs on these cells in this task; ``simulated`` where the cells come from a simulator."""
        ...


def scored(model: Any) -> PopulationAct | CellGenerator:
    """Return what protocols score of the networks of S runs: their actions, or the cells that they generate."""
    return model if isinstance(model, CellGenerator) else model.act
