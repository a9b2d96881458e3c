"""Prior knowledge of genes from a file (gene sets, pathway weights, a network), made short by principal components.

Letters: g genes of the file, M sets (pathways, or all genes of a network), K components.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.config import require
from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError
from perturbrl.rng import numpy_generator

_MEMBER = ("gene", "target", "genesymbol", "gene_symbol", "to")
_SET = ("pathway", "set", "geneset", "gene_set", "tf", "source", "from")
_NETWORK = ("tf", "source", "from")
_WEIGHT = ("weight", "mor", "score")


@dataclass(frozen=True)
class Prior:
    """``rows`` maps a gene to its row of ``scores`` [g, K]."""

    rows: Mapping[str, int]
    scores: NDArray[np.float64]

    def of(self, gene: str) -> NDArray[np.float64] | None:
        """Return the scores of a gene, None where the file does not have it."""
        row = self.rows.get(gene)
        return None if row is None else self.scores[row]


def read_prior(file: str, k: int, keep: Mapping[str, Sequence[str]]) -> Prior:
    """Read a .gmt file, or a table (.csv, .tsv, .txt, also .gz) with a header, and reduce it to ``k`` components.

    A table has columns gene and pathway, or tf (source) and target; and weight (mor) where there are weights. In a
    network a gene's row holds its neighbours, both ways. ``keep`` limits columns to values (``confidence: [A, B]``).

    Raises
    ------
    UserError
        The file is missing or of another form, or nothing is left of it.
    """
    path, where = Path(file).expanduser(), f"description.prior={file}"
    require(path.is_file(), where, "no such file; give a .gmt, or a .csv or .tsv with columns gene and pathway")
    plain = path.name.removesuffix(".gz")
    try:
        edges, network = (_gmt(path), False) if plain.endswith(".gmt") else _table(path, plain, keep, where)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read as a table ({str(error).splitlines()[0][:120]})") from None
    require(len(edges) > 0, where, "nothing is left of it; see description.prior_keep")
    if network:
        turned = edges.rename(columns={"gene": "set", "set": "gene"})
        edges = pd.concat([edges, turned[edges.columns]], ignore_index=True)
    genes, rows = np.unique(edges["gene"].to_numpy(dtype=str), return_inverse=True)
    sets, columns = np.unique(edges["set"].to_numpy(dtype=str), return_inverse=True)
    weights = edges["weight"].to_numpy(dtype=np.float64)
    require(bool(np.isfinite(weights).all()), where, "a weight is not a finite number")
    matrix = sparse.csr_matrix((weights, (rows, columns)), shape=(len(genes), len(sets)))
    return Prior({str(g): k for k, g in enumerate(genes)}, _components(matrix, k))


def _gmt(path: Path) -> pd.DataFrame:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    fields = [line.split("\t") for line in content.decode("utf-8").splitlines() if line.strip()]
    pairs = [(gene, name) for name, *rest in fields for gene in rest[1:] if gene]
    return pd.DataFrame(pairs, columns=["gene", "set"]).assign(weight=1.0).drop_duplicates()


def _table(path: Path, plain: str, keep: Mapping[str, Sequence[str]], where: str) -> tuple[pd.DataFrame, bool]:
    table = pd.read_csv(path, sep="," if plain.endswith(".csv") else "\t", dtype=str, keep_default_na=False)
    by_lower = {str(c).lower(): c for c in table.columns}
    member, group, weight = (
        next((by_lower[n] for n in names if n in by_lower), None) for names in (_MEMBER, _SET, _WEIGHT)
    )
    if member is None or group is None:
        raise UserError(f"{where}: needs columns gene and pathway, or tf and target; it has {listed(table.columns)}")
    for column, values in keep.items():
        require(column in table.columns, "description.prior_keep", f"{column!r} is no column of {path.name}")
        table = table[table[column].isin([str(v) for v in values])]
    edges = pd.DataFrame({"gene": table[member], "set": table[group]})
    edges["weight"] = 1.0 if weight is None else pd.to_numeric(table[weight])
    return edges[edges["gene"] != ""], str(group).lower() in _NETWORK


def _components(matrix: sparse.csr_matrix, k: int) -> NDArray[np.float64]:
    """Return the scores U S [g, K] of the uncentred PCA, so that a gene without any set stays at zero."""
    k = min(k, *matrix.shape)
    if min(matrix.shape) <= 512 or k >= min(matrix.shape) - 1:
        small = matrix.toarray()
        u, s, _ = np.linalg.svd(small, full_matrices=False)
        u, s = u[:, :k], s[:k]
    else:
        start = numpy_generator(0, "prior").standard_normal(min(matrix.shape))
        u, s, _ = sparse.linalg.svds(matrix, k=k, v0=start)
        order = np.argsort(-s)
        u, s = u[:, order], s[order]
    largest = np.take_along_axis(u, np.abs(u).argmax(axis=0)[None], axis=0)[0]
    return np.asarray(u * s * np.where(largest < 0, -1.0, 1.0), dtype=np.float64)
