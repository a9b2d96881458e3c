from dataclasses import dataclass

import numpy as np
import pandas as pd

from perturbrl.plugins import Modality, RawCells, sources


@dataclass(frozen=True)
class Config:
    name: str
    n_cells: int
    n_genes: int


@sources.register("blobs", Config)
def build(config):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 2.0, (4, config.n_genes))[rng.integers(0, 4, config.n_cells)])
    genes = np.array([f"gene{g}" for g in range(config.n_genes)])
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(config.n_cells)])
    return RawCells("blobs", {"rna": Modality(counts, genes, "counts")}, obs, checksum=str(config))
