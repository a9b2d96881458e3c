"""Preprocessing of one modality: each step is fitted on training cells and applied to all."""

from perturbrl.data.preprocess.config import DataConfig
from perturbrl.data.preprocess.modality import select_features, transform
from perturbrl.data.preprocess.select import KeepFeatures
from perturbrl.data.preprocess.steps import CentredLogRatio, DepthNormalize, Log1p, Standardize, TfIdf

__all__ = [
    "CentredLogRatio",
    "DataConfig",
    "DepthNormalize",
    "KeepFeatures",
    "Log1p",
    "Standardize",
    "TfIdf",
    "select_features",
    "transform",
]
