"""No encoder: the preprocessed values themselves. Letters: N cells, G features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.data.preprocess.steps import Array, dense
from perturbrl.registry import encoders


@dataclass(frozen=True)
class NoneConfig:
    """Keep the preprocessed values."""

    name: str


@encoders.register("none", NoneConfig)
def build(
    config: NoneConfig, x: Array, train: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[str, ...]]:
    """Return the values themselves, dense [N, G]."""
    return np.asarray(dense(x), dtype=np.float32), (), ()
