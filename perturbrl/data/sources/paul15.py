"""``source=paul15``: mouse myeloid progenitors (Paul et al. 2015), as hosted for scanpy, or a copy, ``path=FILE``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from perturbrl import registry
from perturbrl.data.fetch import Remote, obtain
from perturbrl.data.readers import CellFile, ColumnKeys, Part, assemble, read_file, sha256_of
from perturbrl.data.readers.formats import PAUL15_H5, sniff
from perturbrl.data.readers.opened import text
from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError

# What the 19 clusters of the study are, in its order.
CLUSTERS = (*["Ery"] * 6, *["MEP", "Mk", "GMP", "GMP", "DC", "Baso", "Baso", "Mo", "Mo", "Neu", "Neu", "Eos", "Lymph"])


@dataclass(frozen=True)
class PaulConfig(Remote, ColumnKeys):
    """The published .h5, or a .h5ad of the same cells."""

    layer: str | None


@registry.sources.register("paul15", PaulConfig)
def build(config: PaulConfig) -> RawCells:
    """Read counts of 2730 cells x 3451 informative genes (other copies differ in both).

    Raises
    ------
    UserError
        The file cannot be downloaded, or is not the published one.
    """
    file = obtain(config)
    if sniff(file.path) != PAUL15_H5:
        return read_file(file.path, config.name, config.layer, "rna", config, file.sha256)
    return assemble(_open(file.path), config.name, config, file.sha256 or sha256_of(file.path))


def _open(path: Path) -> CellFile:
    """Open the published file, where genes are rows and the gene names are lists of synonyms ``a;b``."""
    from perturbrl.data.readers.elements import check_numbers, dataset
    from perturbrl.data.readers.hdf5_safety import open_hdf5

    try:
        with open_hdf5(path) as file:
            check_numbers(dataset(file, "data.debatched", f"{path}: "), f"{path}: data.debatched")
            x = np.asarray(file["data.debatched"][()]).T
            genes = text(file["data.debatched_rownames"][()])
            cells = text(file["data.debatched_colnames"][()])
            clusters = np.asarray(file["cluster.id"][()]).ravel().astype(np.int64)
            informative = text(file["info.genes_strings"][()])
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the published paul15.h5 ({str(error).splitlines()[0][:120]})") from None
    if x.shape != (len(cells), len(genes)) or len(clusters) != len(cells):
        raise UserError(
            f"{path}: {x.shape[1]} genes x {x.shape[0]} cells, but {len(genes)} gene and {len(cells)} cell names"
        )
    if clusters.size and not (clusters.min() >= 1 and clusters.max() <= len(CLUSTERS)):
        raise UserError(f"{path}: cluster.id has values outside 1 to {len(CLUSTERS)}")
    position: dict[str, int] = {}
    for k, gene in enumerate(genes.tolist()):
        position.setdefault(gene.split(";")[0], k)
    gene_names = sorted(set(informative.tolist()) & position.keys())
    obs = pd.DataFrame({"cell_type": [f"{k}{CLUSTERS[k - 1]}" for k in clusters]}, index=pd.Index(cells))
    columns = [position[gene] for gene in gene_names]
    part = Part(
        "data.debatched", np.ascontiguousarray(x[:, columns]), np.asarray(gene_names, dtype=np.str_), cells, (), False
    )
    return CellFile(path, PAUL15_H5, {"rna": part}, obs, ())
