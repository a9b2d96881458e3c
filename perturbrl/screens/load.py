"""From the cells of a source to what the task of predicting perturbations sees: conditions, logs, split, descriptions.

Letters: N cells, G features.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import sparse

from perturbrl import status
from perturbrl.config import require
from perturbrl.data.preprocess import DataConfig, TfIdf, transform
from perturbrl.data.schema import Modality, RawCells
from perturbrl.errors import UserError
from perturbrl.screens.conditions import ConditionsConfig, parse_conditions
from perturbrl.screens.describe import DescriptionConfig, describe
from perturbrl.screens.genes import select
from perturbrl.screens.schema import PerturbationTable, Rows, Screen, ScreenSplit
from perturbrl.screens.split import split_screen
from perturbrl.screens.splits.builder import ImpossibleSplit, ScreenSplitConfig

CHUNK = 65_536  # cells transformed at a time: bounds the copies that are alive


def load_perturbations(
    raw: RawCells,
    data: DataConfig,
    conditions: ConditionsConfig,
    split: ScreenSplitConfig,
    description: DescriptionConfig,
) -> PerturbationTable:
    """Read conditions, log-normalise, split, check for leaks, select features and describe, in this order.

    Selection and descriptions are fitted on ``split.train`` and ``split.control_train`` only.

    Raises
    ------
    UserError
        As ``load_screen``, ``split_screen``, ``select`` and ``describe``.
    """
    with status.step("reading conditions, log-normalising"):
        screen = load_screen(raw, data, conditions)
    with status.step("splitting conditions, looking for leaks"):
        chosen = _split(screen, split, raw, conditions)
    with status.step("selecting features"):
        selected = select(screen, chosen, data)
    with status.step("describing perturbations"):
        return describe(selected, chosen, description)


def _split(screen: Screen, config: ScreenSplitConfig, raw: RawCells, conditions: ConditionsConfig) -> ScreenSplit:
    """Split the screen; the error about a split that it cannot have names those that it can."""
    try:
        return split_screen(screen, config)
    except ImpossibleSplit as error:
        from perturbrl.screens.possible import advice

        raise UserError(f"{error}; {advice(raw.obs, screen, conditions, config.kind)}") from None


def load_screen(raw: RawCells, data: DataConfig, conditions: ConditionsConfig) -> Screen:
    """Read conditions and bring the modalities ``data.modalities`` of N cells to logs, sparse, all features kept.

    Nothing is fitted here, so no split is needed: RNA counts are scaled to ``data.target_sum`` and logged, protein
    counts centred per cell, peaks become log(1 + ``data.tfidf_scale`` * open / open peaks of the cell), without the
    inverse document frequency, which would have to be fitted.

    Raises
    ------
    UserError
        The source lacks a modality, a config value is impossible, a value is not finite, or as ``parse_conditions``.
    """
    for name in data.modalities:
        require(name in raw.modalities, f"data={data.name}", f"source {raw.name} has no {name}; choose another data=")
    parsed = parse_conditions(raw.obs, conditions, raw.name)
    notes = list(parsed.notes)
    blocks: list[sparse.csr_matrix] = []
    features: list[str] = []
    slices: dict[str, slice] = {}
    for name in data.modalities:
        modality = raw.modalities[name]
        slices[name] = slice(len(features), len(features) + modality.x.shape[1])
        taken = set(features)
        features += [f"{name}:{f}" if f in taken else f for f in modality.features.tolist()]
        blocks.append(_logged(name, modality, parsed.rows, data, raw.name))
        if name == "atac":
            notes.append("peaks carry no inverse document frequency, which would have to be fitted before the split")
        elif modality.kind not in ("counts", "log") or (modality.kind == "counts" and name == "rna" and not data.log1p):
            notes.append(f"{name} is {modality.kind}, not a log of counts: scores on it are not comparable")
    return Screen(
        x=_beside(blocks),
        features=tuple(str(f) for f in features),
        slices=slices,
        condition=parsed.condition,
        conditions=parsed.conditions,
        batch=parsed.batch,
        batches=parsed.batches,
        obs=raw.obs if len(parsed.rows) == len(raw.obs) else raw.obs.iloc[parsed.rows],
        source=raw.name,
        checksum=raw.checksum,
        notes=tuple(notes),
        genes=parsed.genes,
        columns=parsed.columns,
    )


def _logged(name: str, modality: Modality, rows: Rows, data: DataConfig, where: str) -> sparse.csr_matrix:
    """Transform the cells ``rows`` piece by piece; every step is one of a single cell, so pieces change nothing."""
    plain = dataclasses.replace(data, tfidf_scale=None)
    cells = _take(modality.x, rows)
    if sparse.issparse(cells):
        # Row pointers wider than the column numbers make scipy copy all of the latter at every slice.
        cells = sparse.csr_matrix((cells.data, cells.indices, cells.indptr), shape=cells.shape)
    n, g = cells.shape
    # No step turns a zero into something else, but the centring of proteins.
    most = cells.nnz if sparse.issparse(cells) and name != "protein" else n * g
    values, columns = np.empty(most, dtype=np.float32), np.empty(most, dtype=np.int32)
    ends = np.zeros(n + 1, dtype=np.int64)
    for start in range(0, n, CHUNK):
        part = dataclasses.replace(modality, x=cells[start : start + CHUNK])
        x: Any = transform(name, part, plain, np.zeros(0, dtype=np.int64), where)
        if name == "atac" and data.tfidf_scale is not None:
            x = TfIdf(np.ones(g), data.tfidf_scale).apply(x)
        piece = sparse.csr_matrix(x, dtype=np.float32)
        piece.sort_indices()
        first = int(ends[start])
        values[first : first + piece.nnz], columns[first : first + piece.nnz] = piece.data, piece.indices
        ends[start + 1 : start + 1 + piece.shape[0]] = first + piece.indptr[1:]
    return sparse.csr_matrix((values[: ends[-1]], columns[: ends[-1]], ends), shape=(n, g))


def _take(x: Any, rows: Rows) -> Any:
    """Return rows of a matrix; the matrix itself, or a view, where that will do."""
    if len(rows) == x.shape[0]:
        return x
    contiguous = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows)
    return x[rows[0] : rows[-1] + 1] if contiguous else x[rows]


def _beside(blocks: list[sparse.csr_matrix]) -> sparse.csr_matrix:
    return blocks[0] if len(blocks) == 1 else sparse.csr_matrix(sparse.hstack(blocks, format="csr"))
