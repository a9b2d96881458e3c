"""Map the columns of a file to the standard names: perturbation, is_control, batch, cell_type, dose, pseudotime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perturbrl.data.readers.opened import listed, text
from perturbrl.errors import UserError

CONTROL, UNASSIGNED = "control", "unassigned"
STANDARD = ("perturbation", "is_control", "batch", "cell_type", "dose", "pseudotime", "fate")

# Common names of the column in published files, most specific first; case is ignored.
COMMON = {
    "perturbation": (
        *(
            "perturbation",
            "perturbation_name",
            "perturbations",
            "condition",
            "gene",
            "target_gene",
            "gene_target",
            "target",
        ),
        *("guide_identity", "guide_ids", "guide", "sgrna", "treatment", "drug", "compound", "cytokine"),
    ),
    "batch": (
        "batch",
        "batch_id",
        "bio_rep",
        "replicate",
        "donor",
        "donor_id",
        "gem_group",
        "gemgroup",
        "sample",
        "library",
    ),
    "cell_type": ("cell_type", "celltype", "cell_types", "cell_type_l1", "bulk_labels", "annotation", "cell_line"),
    "dose": ("dose", "dose_value", "dosage", "concentration"),
    "pseudotime": ("pseudotime", "dpt_pseudotime", "palantir_pseudotime", "pseudotime_order", "latent_time"),
    "is_control": ("is_control", "control"),
}
_CONTROL_WORDS = frozenset(
    [
        "control",
        "controls",
        "ctrl",
        "ctl",
        "nontargeting",
        "nontarget",
        "nt",
        "ntc",
        "negctrl",
        "negativecontrol",
        "vehicle",
        "dmso",
        "unperturbed",
        "untreated",
        "unstimulated",
        "pbs",
        "mock",
        "scramble",
        "scrambled",
        "safetargeting",
        "safeharbor",
        "noperturbation",
        "nocytokine",
    ]
)
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


@dataclass(frozen=True)
class ColumnKeys:
    """Names of the obs columns to use; None: the first column with a common name (``COMMON``)."""

    perturbation_key: str | None
    control_label: str | None
    batch_key: str | None
    cell_type_key: str | None
    dose_key: str | None
    pseudotime_key: str | None


@dataclass(frozen=True)
class Mapped:
    """``obs`` with the standard columns added, the source column of each, and notes on columns not used."""

    obs: pd.DataFrame
    source_columns: Mapping[str, str]
    notes: tuple[str, ...]


def is_control_name(label: str) -> bool:
    """Return whether a perturbation has one of the usual names of a control (``ctrl``, ``non-targeting``, ``DMSO``)."""
    plain = re.sub(r"[^a-z]", "", label.lower())
    return plain in _CONTROL_WORDS or plain.startswith(("negctrl", "nontargeting"))


def standard_name(label: str) -> str:
    """Return the standard name of a perturbation: ``A+B``, sorted, without controls (``KLF1+ctrl`` is ``KLF1``)."""
    parts = {p.strip() for p in label.split("+")} - {""}
    acting = sorted(p for p in parts if not is_control_name(p))
    return "+".join(acting) if acting else CONTROL


def map_columns(obs: pd.DataFrame, keys: ColumnKeys, location: str) -> Mapped:
    """Add the standard columns for which ``obs`` has a source column.

    Parameters
    ----------
    obs
        Annotations of the cells, N rows.
    keys
        Names of the columns to use.
    location
        The file, for messages.

    Returns
    -------
    Mapped
        A copy of ``obs`` with the standard columns, N rows.

    Raises
    ------
    UserError
        A column named by a key is absent; ``control_label`` is not among the perturbations; or a dose or pseudotime
        column named by a key has a row without a number.
    """
    out = obs.drop(columns=[c for c in obs.columns if c in STANDARD and c != "fate"])
    source_columns: dict[str, str] = {}
    notes: list[str] = []
    for standard in ("batch", "cell_type"):
        column = _column(obs, standard, getattr(keys, f"{standard}_key"), location)
        if column is not None:
            out[standard], source_columns[standard] = text(obs[column].astype(object)), column
    for standard in ("dose", "pseudotime"):
        key = getattr(keys, f"{standard}_key")
        column = _column(obs, standard, key, location)
        if column is None:
            continue
        values = pd.to_numeric(obs[column].astype(object), errors="coerce").to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad) and key is not None:
            raise UserError(
                f"{location}: obs[{column!r}] is not a number in {len(bad)} of {len(obs)} cells, first in "
                f"{obs.index[bad[0]]!r} "
                f"({obs[column].iloc[bad[0]]!r}); a {standard} must be a number in every cell"
            )
        if len(bad):
            notes.append(f"obs[{column!r}] is not used as {standard}: no number in {len(bad)} of {len(obs)} cells")
        else:
            out[standard], source_columns[standard] = values, column
    _perturbations(obs, out, keys, source_columns, location)
    if "fate" in out.columns:
        out["fate"], source_columns["fate"] = text(obs["fate"].astype(object)), "fate"
    return Mapped(out, source_columns, tuple(notes))


def _perturbations(
    obs: pd.DataFrame, out: pd.DataFrame, keys: ColumnKeys, source_columns: dict[str, str], location: str
) -> None:
    column = _column(obs, "perturbation", keys.perturbation_key, location)
    flag = _column(obs, "is_control", None, location) if keys.control_label is None else None
    control: NDArray[np.bool_] | None = _booleans(obs[flag]) if flag is not None else None
    if column is not None:
        raw = obs[column].astype(object)
        missing = raw.isna().to_numpy()
        labels = np.where(missing, UNASSIGNED, text(raw)).astype(object)
        if keys.control_label is not None:
            control = labels == keys.control_label
            if not control.any():
                raise UserError(
                    f"{location}: source.control_label={keys.control_label!r} is not a value of obs[{column!r}]; "
                    f"its values are {listed(sorted(set(labels)))}"
                )
        names = {label: standard_name(str(label)) for label in set(labels)}
        standard = np.asarray([names[label] for label in labels], dtype=object)
        if control is None:
            control = standard == CONTROL
            control = control if control.any() else None
            source = column
        else:
            standard = np.where(control, CONTROL, standard)
            source = str(flag) if flag is not None and keys.control_label is None else column
        out["perturbation"], source_columns["perturbation"] = standard, column
    else:
        source = str(flag)
        if keys.control_label is not None:
            raise UserError(
                f"{location}: source.control_label is given but no perturbation column; "
                "name it in source.perturbation_key"
            )
    if control is not None:
        out["is_control"], source_columns["is_control"] = np.asarray(control, dtype=np.bool_), source


def _column(obs: pd.DataFrame, standard: str, key: str | None, location: str) -> str | None:
    """Return the column to use: the one named by ``key``, else the first with a common name and usable values."""
    if key is not None:
        if key not in obs.columns:
            raise UserError(
                f"{location}: source.{standard}_key={key!r} is not a column of obs; "
                f"its columns are {listed(obs.columns, 20)}"
            )
        return key
    by_lower = {str(c).lower(): str(c) for c in reversed(list(obs.columns))}
    for name in COMMON[standard]:
        column = by_lower.get(name)
        if column is not None and _is_usable(obs[column], standard):
            return column
    return None


def _is_usable(values: pd.Series[Any], standard: str) -> bool:
    if standard == "is_control":
        return _booleans(values) is not None
    if standard == "perturbation":
        return (
            values.nunique() > 1 and not pd.api.types.is_float_dtype(values) and not pd.api.types.is_bool_dtype(values)
        )
    return bool(values.notna().any())


def _booleans(values: pd.Series[Any]) -> NDArray[np.bool_] | None:
    """Return true/false or 1/0 in any spelling as booleans; None if a value is anything else."""
    truth = [_TRUTH.get(str(v).lower()) for v in values.astype(object)]
    return None if None in truth or not truth else np.asarray(truth, dtype=np.bool_)
