"""The preprocessing steps of a modality, chosen by the kind of its values. Letters: N cells, G features."""

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
    """Transform one modality to the scale on which features are selected.

    RNA counts: depth normalisation and log. ATAC of any kind: TF-IDF of x > 0. Protein counts: CLR. Values that are
    logs or continuous are not changed, except in ATAC.

    Parameters
    ----------
    name
        ``rna``, ``atac`` or ``protein``.
    modality
        The matrix [N, G] and the kind of its values.
    config
        Settings of the steps (``conf/data``).
    train
        Row numbers of the training cells, on which TF-IDF is fitted.
    location
        The source, for messages.

    Returns
    -------
    ndarray or csr_matrix
        Shape [N, G], float32.

    Raises
    ------
    UserError
        A value is NaN or infinite, before or after the steps. The message names the feature and ``location``.
    """
    x = sparse.csr_matrix(modality.x) if sparse.issparse(modality.x) else np.asarray(modality.x)
    # x > 0 would silently turn NaN into a closed peak.
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
    """Select features on the training cells. ``hvg`` means scaled dispersion for log RNA, and variance otherwise.

    Parameters
    ----------
    name
        ``rna``, ``atac`` or ``protein``.
    x_train
        Transformed values of the training cells, shape [N_train, G].
    modality
        The modality, for the kind of its values.
    config
        ``select`` and ``n_features`` (``conf/data``).
    pseudotime
        Shape [N_train]; needed for mutual information only.
    seed
        Seed of the estimator of mutual information.

    Returns
    -------
    KeepFeatures
        The columns to keep.

    Raises
    ------
    UserError
        All features are constant over the training cells.
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
