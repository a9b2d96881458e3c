"""Principal components as an encoder. Letters: N cells, G features, K components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.bounds import PositiveInt
from perturbrl.config import require
from perturbrl.data.preprocess.steps import Array, dense
from perturbrl.registry import encoders

Encoded = tuple[NDArray[np.float32], tuple[str, ...], tuple[str, ...]]
"""Features [N, K]; their K names (empty: those of the input); sentences on leaks from test cells (empty: none)."""


@dataclass(frozen=True)
class PcaConfig:
    """Principal components, fitted on the training cells."""

    name: str
    components: PositiveInt


@encoders.register("pca", PcaConfig)
def pca(config: PcaConfig, x: Array, train: NDArray[np.int64], seed: int) -> Encoded:
    """Return the scores on the first K principal components of the training cells.

    Parameters
    ----------
    config
        The number of components, K.
    x
        Preprocessed values of all cells, shape [N, G], dense or CSR.
    train
        Row numbers of the cells on which the encoder is fitted.
    seed
        Seed of all random draws.

    Returns
    -------
    Encoded
        Scores [N, K] float32, names ``pca0`` to ``pca{K - 1}``, no leaks.

    Raises
    ------
    UserError
        More components than training cells or features.
    """
    scores = principal_components(x, train, config.components, seed, "encoder.components")
    return scores, tuple(f"pca{i}" for i in range(config.components)), ()


def principal_components(
    x: Array, train: NDArray[np.int64], components: int, seed: int, where: str
) -> NDArray[np.float32]:
    """Return principal component scores [N, K] of all cells, fitted on the rows ``train``; ``key`` is for messages."""
    from sklearn.decomposition import PCA

    limit = min(len(train), x.shape[1])
    require(
        0 < components <= limit,
        where,
        f"{components} components must be 1 to {limit} (the {len(train)} training cells have {x.shape[1]} features)",
    )
    # ARPACK, the solver for sparse input, finds fewer components than the smaller side.
    fitted = dense(x[train]) if components == limit else x[train]
    model = PCA(components, random_state=seed % 2**32).fit(fitted)
    return np.asarray(model.transform(x), dtype=np.float32)
