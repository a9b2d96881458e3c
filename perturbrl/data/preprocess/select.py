"""Feature selection, fitted on training cells. Letters: N cells, G features, K features kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.data.preprocess.steps import Array, dense, varies

CHUNK = 1024  # columns made dense at a time for mutual information


@dataclass(frozen=True)
class KeepFeatures:
    """The K columns to keep, sorted. A feature that is constant over the training cells is never kept.

    Each ``fit_*`` keeps the best ``count`` (all that vary, for None); ties go to the earlier column.
    """

    columns: NDArray[np.int64]

    @classmethod
    def fit_dispersion(cls, x_train: Array, count: int | None) -> KeepFeatures:
        """Keep highly variable genes of log data [N_train, G]: scanpy's ``seurat`` flavour (Satija et al. 2015)."""
        import anndata
        import scanpy as sc

        usable = np.flatnonzero(varies(x_train))
        if count is None or len(usable) <= count:
            return cls(usable)
        cells = anndata.AnnData(x_train[:, usable])
        # Only the scores are used: scanpy's own cut keeps more than n_top_genes when scores tie.
        table = sc.pp.highly_variable_genes(cells, n_top_genes=count, flavor="seurat", inplace=False)
        return cls._best(usable, table["dispersions_norm"].to_numpy(dtype=np.float64), count)

    @classmethod
    def fit_variance(cls, x_train: Array, count: int | None) -> KeepFeatures:
        """Keep the features of largest variance in ``x_train`` [N_train, G]; for what is not log expression."""
        usable = np.flatnonzero(varies(x_train))
        if count is None or len(usable) <= count:
            return cls(usable)
        values = x_train[:, usable].astype(np.float64)
        mean = np.asarray(values.mean(axis=0)).ravel()
        square = np.asarray(values.power(2).mean(axis=0) if hasattr(values, "power") else (values**2).mean(axis=0))
        return cls._best(usable, square.ravel() - mean**2, count)

    @classmethod
    def fit_mutual_information(
        cls, x_train: Array, pseudotime: NDArray[np.float64], count: int | None, seed: int
    ) -> KeepFeatures:
        """Keep the features that say most about ``pseudotime`` [N_train] (Kraskov's estimator, scikit-learn).

        The estimator adds noise of relative size 1e-10 to break ties; ``seed`` draws it.
        """
        from sklearn.feature_selection import mutual_info_regression

        usable = np.flatnonzero(varies(x_train))
        if count is None or len(usable) <= count:
            return cls(usable)
        scores = [
            mutual_info_regression(dense(x_train[:, usable[i : i + CHUNK]]), pseudotime, random_state=seed)
            for i in range(0, len(usable), CHUNK)
        ]
        return cls._best(usable, np.concatenate(scores), count)

    def apply(self, x: Array) -> Array:
        """Return the kept columns, [N, K]."""
        return x[:, self.columns]

    @classmethod
    def _best(cls, columns: NDArray[np.int64], scores: NDArray[np.float64], count: int) -> KeepFeatures:
        order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
        return cls(np.sort(columns[order[:count]]))
