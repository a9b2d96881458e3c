"""The cells of a source (``RawCells``) and the features of a task (``CellTable``).

Letters: N cells, G features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

MODALITIES = ("rna", "atac", "protein")
ValueKind = Literal["counts", "log", "binary", "continuous"]
Matrix: TypeAlias = NDArray[np.floating] | NDArray[np.integer] | sparse.csr_matrix


@dataclass(frozen=True)
class Modality:
    """One measured matrix.

    ``x`` has shape [N, G]; sparse stays sparse. ``kind`` is the kind of its values, so that counts are not
    taken for logs.
    """

    x: Matrix
    features: NDArray[np.str_]
    kind: ValueKind


@dataclass(frozen=True)
class RawCells:
    """The cells of a source as read or simulated, before any fitting.

    ``obs`` (index: unique cell names, N rows) may carry the standard columns ``pseudotime`` (float), ``fate``,
    ``cell_type``, ``batch``, ``perturbation`` (str; combinations as ``A+B``), ``is_control`` (bool), ``dose`` (float).
    ``checksum`` is a sha256 of the file, or of the simulator's settings.
    """

    name: str
    modalities: Mapping[str, Modality]
    obs: pd.DataFrame
    checksum: str

    @property
    def n_cells(self) -> int:
        """N, the number of cells."""
        return len(self.obs)


@dataclass(frozen=True)
class CellTable:
    """The features of all cells of a task, and the split on which they were fitted.

    ``x`` [N, G] float32; ``slices`` are the columns of each modality; ``pseudotime`` [N] float64; ``train``
    and ``test`` are disjoint, sorted row numbers; ``leaks`` are sentences on steps that were fitted on more than the
    training cells (empty unless ``data.preset=released``).
    """

    x: NDArray[np.float32]
    features: tuple[str, ...]
    slices: Mapping[str, slice]
    pseudotime: NDArray[np.float64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    obs: pd.DataFrame
    source: str
    checksum: str
    leaks: tuple[str, ...] = field(default=())

    @property
    def n_features(self) -> int:
        """G, the number of features."""
        return int(self.x.shape[1])
