"""Small made-up sources, and configs composed from conf/, for the tests of preprocessing."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from scipy import sparse

import perturbrl.data.encoders  # noqa: F401  (registers them)
from perturbrl import paths, registry
from perturbrl.config import bind
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.schema import Modality, RawCells
from perturbrl.data.split import SplitConfig

KINDS = {"rna": "counts", "atac": "binary", "protein": "counts"}


@functools.cache  # composing takes a tenth of a second
def configs(data: str = "rna", encoder: str = "none", *overrides: str) -> tuple[DataConfig, Any, SplitConfig]:
    chosen = [f"+data={data}", f"+encoder={encoder}", "+split=cells", *overrides]
    with initialize_config_dir(str(paths.conf_dir()), version_base=None):
        config = compose(overrides=chosen)
    return (
        bind(DataConfig, config.data, "data"),
        registry.encoders.bind(config.encoder),
        bind(SplitConfig, config.split, "split"),
    )


def made_cells(
    n=60, genes=24, peaks=20, proteins=6, modalities=("rna", "atac", "protein"), seed=0, as_sparse=True
) -> RawCells:
    """Cells along a curve: every feature rises and falls at its own time."""
    rng = np.random.default_rng(seed)
    time = rng.random(n)
    values = {}
    for name, size in (("rna", genes), ("atac", peaks), ("protein", proteins)):
        level = 1.5 + np.sin(4 * time[:, None] + 6.28 * rng.random(size))
        counts = rng.poisson(3 * level)
        values[name] = (rng.random((n, size)) < level / 3).astype(np.int32) if name == "atac" else counts
    names = {"rna": "g", "atac": "p", "protein": "adt"}
    return RawCells(
        name="made",
        modalities={
            m: Modality(
                sparse.csr_matrix(values[m]) if as_sparse else values[m],
                np.array([f"{names[m]}{i}" for i in range(values[m].shape[1])]),
                KINDS[m],
            )
            for m in modalities
        },
        obs=pd.DataFrame({"pseudotime": time}, index=[f"cell{i}" for i in range(n)]),
        checksum="0" * 64,
    )


def real_file(name: str) -> Path:
    """The path of a real data set, or a skip that says what is absent."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    file = Path(os.environ.get("PERTURBRL_REAL_DATA", default)) / name
    if not file.is_file():
        pytest.skip(f"{name} is not in the folder of real data sets")
    return file
