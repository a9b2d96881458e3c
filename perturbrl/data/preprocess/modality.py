"""Which steps a modality goes through, by what its numbers are. Letters: N cells, G features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.config import require
from perturbrl.data.preprocess.config import DataConfig
from perturbrl.data.preprocess.select import KeepFeatures
from perturbrl.data.preprocess.steps import Array, CentredLogRatio, DepthNormalize, Log1p, TfIdf
from perturbrl.data.schema import Modality
from perturbrl.errors import UserError


def transform(name: str, modality: Modality, config: DataConfig, train: NDArray[np.int64], location: str) -> Array:
    """Bring one modality to the scale on which features are chosen, float32 [N, G].

    RNA counts: depth normalisation and log; ATAC of any kind: TF-IDF of x > 0; protein counts: CLR. Values that are
    already logs, or continuous, are left as they are (only ATAC is read as open or closed all the same).

    Raises
    ------
    UserError
        A value is NaN or infinite, before or after; the message names the feature and ``location``.
    """
    x = sparse.csr_matrix(modality.x) if sparse.issparse(modality.x) else np.asarray(modality.x)
    # x > 0 would turn NaN into a closed peak without a word.
    _require_finite(x, name, modality, f"{location}, as read")
    steps: list[DepthNormalize | Log1p | TfIdf | CentredLogRatio] = []
    if name == "atac" and config.tfidf_scale is not None:
        steps.append(TfIdf.fit(x[train], config.tfidf_scale))
    if name == "protein" and config.clr and modality.kind == "counts":
        steps.append(CentredLogRatio())
    if name == "rna" and modality.kind == "counts":
        if config.target_sum is not None:
            steps.append(DepthNormalize(config.target_sum))
        if config.log1p:
            steps.append(Log1p())
    x = x.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        for step in steps:
            x = step.apply(x)
    _require_finite(x, name, modality, f"{location}, after preprocessing")
    return x


def select_features(
    name: str,
    x_train: Array,
    modality: Modality,
    config: DataConfig,
    pseudotime: NDArray[np.float64] | None,
    seed: int,
) -> KeepFeatures:
    """Choose features on training cells ``x_train`` [N_train, G]; ``pseudotime`` [N_train] for mutual information.

    ``hvg`` means scaled dispersion for log RNA and plain variance for everything else.

    Raises
    ------
    UserError
        No feature varies over the training cells, so none can be kept.
    """
    count = config.n_features.get(name)
    if config.select == "none":
        return KeepFeatures(np.arange(x_train.shape[1], dtype=np.int64))
    if config.select == "mutual_information":
        assert pseudotime is not None
        selection = KeepFeatures.fit_mutual_information(x_train, pseudotime, count, seed)
    elif name == "rna" and (modality.kind == "log" or (modality.kind == "counts" and config.log1p)):
        selection = KeepFeatures.fit_dispersion(x_train, count)
    else:
        selection = KeepFeatures.fit_variance(x_train, count)
    require(
        len(selection.columns) > 0,
        f"data.select={config.select}",
        f"no {name} feature is left: all {x_train.shape[1]} are constant over the {x_train.shape[0]} training cells",
    )
    return selection


def _require_finite(x: Array, name: str, modality: Modality, location: str) -> None:
    values = x.data if sparse.issparse(x) else x
    if np.isfinite(values).all():
        return
    bad = sparse.csr_matrix(~np.isfinite(x)) if not sparse.issparse(x) else _mask(x)
    rows, columns = bad.nonzero()
    raise UserError(
        f"{location}: {name} has NaN or infinite values in {len(np.unique(rows))} of {x.shape[0]} cells, first in "
        f"feature {str(modality.features[columns[0]])!r} of row {rows[0]}; values must be finite and counts not "
        "negative"
    )


def _mask(x: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.csr_matrix((~np.isfinite(x.data), x.indices, x.indptr), shape=x.shape)
