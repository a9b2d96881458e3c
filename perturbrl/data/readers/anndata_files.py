"""Read .h5ad and .h5mu: only the requested matrix, obs and var are loaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbrl.data.readers.modalities import AUTO, choose, modality_named, split
from perturbrl.data.readers.opened import CellFile, Part, listed, matrix, text
from perturbrl.data.schema import MODALITIES
from perturbrl.errors import UserError

RAW = "raw"


def open_h5ad(path: Path, layer: str | None, modality: str) -> CellFile:
    """Open a .h5ad file; ``layer`` None is X, ``raw`` is .raw, any other name a layer.

    Raises
    ------
    UserError
        The layer or the modality is not in the file, or X is missing or not a matrix.
    """
    part, obs, types = read_part(path, layer)
    parts, notes = split(part, types)
    sure = types is not None and any(modality_named(t) for t in np.unique(types))
    return CellFile(path, "h5ad", choose(parts, modality, sure, str(path)), obs, notes)


def read_part(path: Path, layer: str | None) -> tuple[Part, pd.DataFrame, Any]:
    """Read a matrix of a .h5ad file, obs, and the feature types of var (None if absent). Raises as ``open_h5ad``."""
    import h5py

    from perturbrl.data.readers import elements
    from perturbrl.data.readers.hdf5_safety import open_hdf5

    with open_hdf5(path) as file:
        if isinstance(file.get("obs"), h5py.Dataset):
            elements.check_sparse(file, str(path))
            return _old_group(path, layer)
        contents = _group(file, layer, f"{path}: ", "")
        elements.check_sparse(file, str(path), frozenset({contents[0].location}))
        return contents


def open_h5mu(path: Path, layer: str | None, modality: str) -> CellFile:
    """Open a .h5mu file; a modality that lacks ``layer`` is read from its X, if at least one has it.

    Raises
    ------
    UserError
        The file has no modality of a known name, or not ``modality``, or none of them has the layer.
    """
    import h5py

    from perturbrl.data.readers import elements
    from perturbrl.data.readers.hdf5_safety import open_hdf5
    from perturbrl.data.readers.stored_tables import read_table

    with open_hdf5(path) as file:
        modalities = elements.group_of(file, "mod", f"{path}: ")
        modality_of = {name: modality_named(name) for name in modalities}
        notes = tuple(
            f"mod/{name}: a modality of an unknown name is not used" for name, m in modality_of.items() if m is None
        )
        names = [name for name, m in modality_of.items() if m is not None and modality in (AUTO, m)]
        if not names:
            expected = "rna/gex, atac/peaks or prot/protein/adt" if modality == AUTO else f"modality {modality!r}"
            raise UserError(
                f"{path}: there is no {expected} in the file; it holds the modalities {listed(modality_of)}"
            )
        if layer is not None and not any(_has(modalities[name], layer) for name in names):
            layers = sorted({k for name in names for k in elements.layers_of(modalities[name], f"{path}: mod/{name}/")})
            raise UserError(f"{path}: no modality has layer {layer!r}; layers there: {listed(layers)}")
        parts: dict[str, Part] = {}
        tables: list[pd.DataFrame] = []
        for name in names:
            group = elements.group_of(modalities, name, f"{path}: mod/")
            group_layer = layer if layer is not None and _has(group, layer) else None
            part, obs, _ = _group(group, group_layer, f"{path}: ", f"mod/{name}/")
            modality_name = str(modality_of[name])
            if modality_name in parts:
                raise UserError(
                    f"{path}: two modalities are both {modality_name} ({listed(names)}); remove or rename one"
                )
            if layer is not None and group_layer is None:
                notes += (f"mod/{name} has no layer {layer!r}: its X is used",)
            parts[modality_name] = part
            tables.append(obs)
        if "obs" in file and isinstance(file["obs"], h5py.Group):
            shared = read_table(file["obs"], f"{path}: obs")
            tables.insert(0, shared[[c for c in shared.columns if ":" not in str(c)]])
        elements.check_sparse(file, str(path), frozenset(part.location for part in parts.values()))
    ordered = {m: parts[m] for m in MODALITIES if m in parts}
    return CellFile(path, "h5mu", ordered, _joined(tables), notes)


def _group(group: Any, layer: str | None, path: str, inside: str) -> tuple[Part, pd.DataFrame, Any]:
    """Read one AnnData group: its matrix, obs, and the feature types of var (None if absent)."""
    import h5py

    from perturbrl.data.readers import elements
    from perturbrl.data.readers.stored_tables import check_table, read_table

    at = f"{path}{inside}"
    layers = elements.layers_of(group, at)
    inner = "X" if layer is None else "raw/X" if layer == RAW and RAW in group else f"layers/{layer}"
    if inner not in group or group[inner].attrs.get("encoding-type") == "null":
        raise UserError(f"{at}{inner} is not in the file; layers there: {listed(layers)}")
    obs = read_table(elements.group_of(group, "obs", at), f"{at}obs")
    var = read_table(elements.group_of(group, "var", at), f"{at}var")
    for name in layers:
        elements.check_shape(group["layers"][name], f"{at}layers/{name}", len(obs), len(var))
    if RAW in group and "X" in elements.group_of(group, RAW, at):
        features = elements.group_of(group[RAW], "var", f"{at}raw/")
        elements.check_shape(group["raw/X"], f"{at}raw/X", len(obs), check_table(features, f"{at}raw/var"))
        if inner == "raw/X":
            var = read_table(features, f"{at}raw/var")
    uns = group.get("uns")
    part = Part(
        location=f"{inside}{inner}",
        x=elements.read_matrix(group[inner], f"{at}{inner}", len(obs), len(var)),
        features=text(var.index),
        cells=text(obs.index),
        layers=layers,
        logged=isinstance(uns, h5py.Group) and "log1p" in uns,
    )
    return part, _with_text_names(obs), _types(var)


def _old_group(path: Path, layer: str | None) -> tuple[Part, pd.DataFrame, Any]:
    """Read a file written before anndata 0.7, whose tables only anndata's own reader understands."""
    from anndata import read_h5ad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = read_h5ad(path)
    layers = tuple(str(k) for k in data.layers)
    if layer == RAW and data.raw is not None:
        location, x, var = "raw/X", data.raw.X, data.raw.var
    elif layer is None:
        location, x, var = "X", data.X, data.var
    elif layer in data.layers:
        location, x, var = f"layers/{layer}", data.layers[layer], data.var
    else:
        raise UserError(f"{path}: layers/{layer} is not in the file; layers there: {listed(layers)}")
    part = Part(
        location, matrix(x, f"{path}: {location}"), text(var.index), text(data.obs_names), layers, "log1p" in data.uns
    )
    return part, _with_text_names(data.obs), _types(var)


def _has(group: Any, layer: str) -> bool:
    return (layer == RAW and RAW in group) or ("layers" in group and layer in group["layers"])


def _types(var: pd.DataFrame) -> Any:
    return text(var["feature_types"]) if "feature_types" in var.columns else None


def _with_text_names(obs: pd.DataFrame) -> pd.DataFrame:
    out = obs.copy()
    out.index = pd.Index(text(obs.index))
    out.columns = pd.Index([str(c) for c in obs.columns])
    return out


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Put obs tables side by side by cell name; of a column that two have, the earlier fills from the later."""
    tables = [_with_text_names(t) for t in tables]
    if len(tables) == 1 or any(t.index.has_duplicates for t in tables):
        return tables[-1]
    index = tables[0].index
    for table in tables[1:]:
        index = index.union(table.index, sort=False)
    columns: dict[str, pd.Series[Any]] = {}
    for table in tables:
        for name in table.columns:
            values = table[name]
            if isinstance(values.dtype, pd.CategoricalDtype):
                values = values.astype(object)
            values = values.reindex(index)
            earlier = columns.get(name)
            columns[name] = values if earlier is None else earlier.where(earlier.notna(), values)
    return pd.DataFrame(columns, index=index)
