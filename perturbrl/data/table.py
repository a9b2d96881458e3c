"""From the cells of a source to the features of a task. Letters: N cells, G features."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from perturbrl import registry, status
from perturbrl.data.preprocess import DataConfig, Standardize, select_features, transform
from perturbrl.data.preprocess.config import data_needs
from perturbrl.data.preprocess.steps import Array, dense
from perturbrl.data.pseudotime import pseudotime
from perturbrl.data.schema import MODALITIES, CellTable, RawCells
from perturbrl.data.split import SplitConfig, split_cells
from perturbrl.errors import UserError, one_of
from perturbrl.rng import derive


def load_table(raw: RawCells, data: DataConfig, encoder: Any, split: SplitConfig) -> CellTable:
    """Preprocess, encode and standardise the cells of a source. Every step is fitted on the training cells only.

    With ``data.preset=released`` the encoder and the standardisation are fitted on all cells, as in the study's
    release, and ``leaks`` says so. All random draws (mutual information, principal components, dropout, training of an
    encoder) depend on ``split.seed``.

    Parameters
    ----------
    raw
        The N cells of a source.
    data
        Modalities and preprocessing (``conf/data``).
    encoder
        The bound config of an entry of ``registry.encoders``.
    split
        Training and test cells (``conf/split``).

    Returns
    -------
    CellTable
        Features [N, G] float32, pseudotime [N], and the rows of the training and test cells.

    Raises
    ------
    UserError
        The source lacks a modality; a config value does not fit the cells; values are not finite; no feature is left.
    """
    _require_modalities(raw, data)
    train, test = split_cells(raw, split)
    fit_rows = np.arange(raw.n_cells, dtype=np.int64) if data.preset == "released" else train
    matrices, times = _choose(raw, data, train, test, split.seed)

    blocks: list[NDArray[np.float32]] = []
    names, leaks, slices = list[str](), list[str](), dict[str, slice]()
    for name, (x, features) in matrices.items():
        entry = registry.encoders[encoder.name]
        with status.step(f"encoding {name} ({encoder.name})"):
            block, encoder_names, encoder_leaks = entry.build(encoder, x, fit_rows, derive(split.seed, "encoder", name))
        _check_block(block, encoder_names or tuple(features), raw, name, encoder.name)
        if data.scale:
            block = Standardize.fit(block[fit_rows]).apply(block)
        slices[name] = slice(len(names), len(names) + block.shape[1])
        names += _unique_names(name, [f"{name}_{n}" for n in encoder_names] or features, names)
        blocks.append(block)
        leaks += [leak for leak in encoder_leaks if leak not in leaks]
    if data.preset == "released":
        leaks = _released_leaks(data, encoder.name, raw.n_cells, len(test)) + leaks
    return CellTable(
        x=np.ascontiguousarray(np.concatenate(blocks, axis=1)),
        features=tuple(names),
        slices=slices,
        pseudotime=times,
        train=train,
        test=test,
        obs=raw.obs,
        source=raw.name,
        checksum=raw.checksum,
        leaks=tuple(leaks),
    )


def _choose(
    raw: RawCells, data: DataConfig, train: NDArray[np.int64], test: NDArray[np.int64], seed: int
) -> tuple[dict[str, tuple[Array, list[str]]], NDArray[np.float64]]:
    """Transform each modality and select its features; diffusion pseudotime uses the first modality.

    Mutual information needs pseudotime before the selection, so there it is computed on all features of the first
    modality, otherwise on the selected ones.
    """
    values = {}
    for m in data.modalities:
        with status.step(f"preprocessing {m}"):
            values[m] = transform(m, raw.modalities[m], data, train, raw.name)
    first, seed32 = data.modalities[0], derive(seed, "preprocess") % 2**32  # scikit-learn takes 32 bits
    times = None
    if data.select == "mutual_information":
        times = pseudotime(raw, values[first], data, train, test, seed32)
    matrices: dict[str, tuple[Array, list[str]]] = {}
    for m, x in values.items():
        train_times = None if times is None else times[train]
        with status.step(f"selecting features of {m}"):
            selection = select_features(m, x[train], raw.modalities[m], data, train_times, seed32)
            selected = x if data.select == "none" else np.ascontiguousarray(dense(selection.apply(x)), dtype=np.float32)
        matrices[m] = (selected, [str(f) for f in raw.modalities[m].features[selection.columns]])
    if times is None:
        times = pseudotime(raw, matrices[first][0], data, train, test, seed32)
    return matrices, times


def _require_modalities(raw: RawCells, data: DataConfig) -> None:
    missing = [m for m in data.modalities if m not in raw.modalities]
    if not missing:
        return
    available = [m for m in MODALITIES if m in raw.modalities]
    has = " and ".join(available) or "no modality at all"
    fitting = sorted(name for name, needs in data_needs().items() if set(needs) <= set(available))
    remedy = f"choose data={one_of(fitting)}" if fitting else "no choice of data= fits it"
    raise UserError(f"data={data.name}: source {raw.name} has no {' and no '.join(missing)} (it has {has}); {remedy}")


def _check_block(
    block: NDArray[np.float32], names: tuple[str, ...], raw: RawCells, modality: str, encoder: str
) -> None:
    location = f"encoder={encoder}: {modality} of {raw.name}"
    if block.ndim != 2 or block.shape[0] != raw.n_cells or block.shape[1] == 0:
        raise UserError(f"{location}: features of shape {block.shape} came back; [{raw.n_cells}, at least 1] is needed")
    if len(names) != block.shape[1]:
        raise UserError(f"{location}: {len(names)} names came back for {block.shape[1]} features")
    if not np.isfinite(block).all():
        raise UserError(
            f"{location}: {int((~np.isfinite(block)).any(axis=1).sum())} cells have NaN or infinite features"
        )


def _unique_names(modality: str, names: list[str], earlier: list[str]) -> list[str]:
    """Keep names; one that an earlier modality has too (CD4 as gene and as protein) becomes ``protein:CD4``."""
    earlier_names = set(earlier)
    return [f"{modality}:{name}" if name in earlier_names else name for name in names]


def _released_leaks(data: DataConfig, encoder: str, n_cells: int, n_test: int) -> list[str]:
    fitted_cells = f"all {n_cells} cells, {n_test} of them test cells"
    out = [] if encoder == "none" else [f"the encoder {encoder} was fitted on {fitted_cells}"]
    if data.scale:
        out.append(f"features were standardised over {fitted_cells}")
    if data.pseudotime_kind == "row":
        out.append("pseudotime is the row number of a cell in the file, not an order of development")
    return out
