"""Content and faults of a file of cells, with remedies: the first part of ``data validate``, before it tries tasks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from perturbrl.data.findings import Finding
from perturbrl.data.preprocess.config import data_needs
from perturbrl.data.readers import CellFile, map_columns, open_file
from perturbrl.data.readers.checks import COUNT_LAYERS, part_faults
from perturbrl.data.readers.columns import CONTROL, UNASSIGNED
from perturbrl.data.readers.kinds import Profile, constant_features, kind_of, profile
from perturbrl.data.readers.opened import Part, listed
from perturbrl.data.sources.file import FileConfig
from perturbrl.errors import UserError

FEW_CELLS = 10
ENVS = ("env=paper", "env=paper_discrete", "env=counterfactual")


def everything() -> tuple[str, ...]:
    """Return all tasks that a file can be used for: every choice of ``data=``, then ``ENVS``."""
    return (*(f"data={name}" for name in data_needs()), *ENVS)


def examine(cell_file: CellFile, keys: FileConfig) -> list[Finding]:
    """Examine an opened file.

    Parameters
    ----------
    cell_file
        The file, opened but not checked.
    keys
        The config of ``source=file``, which names the columns to use.

    Returns
    -------
    list of Finding
        Its content, every fault, and the columns that are used. Faults are findings, not exceptions.
    """
    sizes = ", ".join(f"{m} {p.x.shape[0]} x {p.x.shape[1]}" for m, p in cell_file.parts.items())
    findings = [Finding("ok", "file", f"{cell_file.format}, cells x features: {sizes}", "", ())]
    findings += [Finding("warning", "file", note, "", ()) for note in cell_file.notes]
    for modality, part in cell_file.parts.items():
        affected = _using(modality)
        summary = profile(part.x)
        faults = part_faults(part, modality, summary)
        findings += [Finding("error", part.location, f.what, f.remedy, everything()) for f in faults]
        if not faults:
            findings += _values(part, modality, summary, affected) + _constant(part, affected)
        findings += _names(part, affected) + _count_layers(cell_file, keys, modality, part)
    return findings + _matching(cell_file) + _columns(cell_file, keys)


def _values(part: Part, modality: str, summary: Profile, affected: tuple[str, ...]) -> list[Finding]:
    kind = kind_of(summary, modality)
    layers = f"; layers: {listed(part.layers)}" if part.layers else ""
    findings = [
        Finding("ok", part.location, f"{modality}: {kind}, from {summary.low:g} to {summary.high:g}{layers}", "", ())
    ]
    counts = [k for k in part.layers if k.lower() in COUNT_LAYERS]
    if kind == "counts" and part.logged:
        what, remedy = (
            "uns['log1p'] says these are logs, but all are whole numbers",
            "remove uns['log1p'] if these are counts",
        )
        findings.append(Finding("warning", part.location, what, remedy, affected))
    if kind == "continuous" and modality == "atac" and not summary.negative:
        findings.append(
            Finding("ok", part.location, "weighted, not counted: only whether a value is > 0 is used", "", ())
        )
    elif kind in ("log", "continuous"):
        what = {
            "log": "logs, not counts: they are used as they are, and never normalised again",
            "continuous": "neither counts nor logs (scaled, weighted or not logged): used as they are",
        }[kind]
        remedy = (
            f"source.layer={counts[0]} reads counts" if counts else "keep counts in layers['counts'] if you have them"
        )
        findings.append(Finding("ok" if kind == "log" else "warning", part.location, what, remedy, ()))
    return findings


def _constant(part: Part, affected: tuple[str, ...]) -> list[Finding]:
    constant = part.features[constant_features(part.x)]
    if not len(constant):
        return []
    what = f"{len(constant)} of {part.x.shape[1]} features have the same value in every cell: {listed(constant)}"
    if len(constant) == part.x.shape[1]:
        return [Finding("warning", part.location, what, "there is nothing to learn from; check the matrix", affected)]
    return [Finding("warning", part.location, what, "they are left out when features are chosen", ())]


def _names(part: Part, affected: tuple[str, ...]) -> list[Finding]:
    findings = []
    for what, names in (("cell", part.cells), ("feature", part.features)):
        index = pd.Index(names)
        repeated = index[index.duplicated()].unique()
        if len(repeated):
            message = f"{len(repeated)} {what} names occur more than once: {listed(repeated)}"
            remedy = f"they are renamed to {repeated[0]}, {repeated[0]}-1, ...; give them unique names if that is wrong"
            findings.append(Finding("warning", part.location, message, remedy, affected))
    return findings


def _count_layers(cell_file: CellFile, keys: FileConfig, modality: str, part: Part) -> list[Finding]:
    """Check layers called counts that were not chosen, since a user who chooses one expects counts."""
    findings = []
    for name in part.layers:
        if name.lower() not in COUNT_LAYERS or part.location.endswith(f"layers/{name}"):
            continue
        try:
            other = open_file(cell_file.path, name, keys.modality).parts[modality]
        except UserError as error:
            remedy = "remove or rewrite the layer"
            findings.append(Finding("warning", f"layers/{name}", str(error), remedy, (f"source.layer={name}",)))
            continue
        faults = part_faults(other, modality, profile(other.x))
        findings += [Finding("warning", other.location, f.what, f.remedy, (f"source.layer={name}",)) for f in faults]
    return findings


def _matching(cell_file: CellFile) -> list[Finding]:
    if len(cell_file.parts) < 2:
        return []
    alone = f"source.modality={next(iter(cell_file.parts))} reads one of them alone"
    indexes = [pd.Index(p.cells) for p in cell_file.parts.values()]
    repeated = [p.location for p, i in zip(cell_file.parts.values(), indexes, strict=True) if i.has_duplicates]
    if repeated and cell_file.format == "h5mu":
        what = f"cell names are repeated in {listed(repeated)}, so the modalities cannot be matched"
        return [Finding("error", "cells", what, f"make obs_names unique; {alone}", everything())]
    common = indexes[0]
    for index in indexes[1:]:
        common = common.intersection(index)
    largest = max(len(i) for i in indexes)
    sizes = ", ".join(f"{m} {len(p.cells)}" for m, p in cell_file.parts.items())
    if not len(common):
        what = f"the modalities have no cell in common ({sizes})"
        return [Finding("error", "cells", what, f"give both the same obs_names; {alone}", everything())]
    if len(common) < largest:
        what = f"only {len(common)} cells are in every modality ({sizes})"
        remedy = "the others are left out; source.modality=rna (or atac, protein) keeps all of one"
        return [Finding("warning", "cells", what, remedy, tuple(f"data={m}" for m in cell_file.parts))]
    return [Finding("ok", "cells", f"all {len(common)} cells are in every modality", "", ())]


def _columns(cell_file: CellFile, keys: FileConfig) -> list[Finding]:
    target = ("env=counterfactual",)
    try:
        mapped = map_columns(cell_file.obs, keys, "obs")
    except UserError as error:
        return [Finding("error", "obs", str(error), "correct the key, or leave it null", everything())]
    obs, findings = mapped.obs, [Finding("warning", "obs", note, "", ()) for note in mapped.notes]
    for standard, column in mapped.source_columns.items():
        findings.append(Finding("ok", f"obs[{column!r}]", f"{standard}: {_summary(obs[standard])}", "", ()))
    if "perturbation" not in obs:
        what = f"no column of perturbations (columns: {listed(cell_file.obs.columns)})"
        findings.append(Finding("warning", "obs", what, "name it with source.perturbation_key", target))
    else:
        sizes = obs["perturbation"].value_counts()
        if UNASSIGNED in sizes:
            what = f"{sizes[UNASSIGNED]} of {len(obs)} cells have no perturbation"
            findings.append(
                Finding("warning", "obs", what, "they get the label 'unassigned'; remove them if that is wrong", target)
            )
        few = sizes[(sizes < FEW_CELLS) & ~sizes.index.isin([CONTROL, UNASSIGNED])]
        if len(few):
            what = f"{len(few)} perturbations have fewer than {FEW_CELLS} cells: {listed(few.index)}"
            findings.append(Finding("warning", "obs", what, "too few to score; leave them out or pool them", target))
    if "perturbation" in obs and ("is_control" not in obs or not obs["is_control"].any()):
        what = f"no control cells: none of {listed(sorted(set(obs['perturbation'])))} is a usual name for control"
        findings.append(Finding("warning", "obs", what, "name the control with source.control_label", target))
    if "pseudotime" not in obs:
        findings.append(
            Finding(
                "ok",
                "obs",
                "no pseudotime: diffusion pseudotime is computed",
                "source.pseudotime_key names a column",
                (),
            )
        )
    return findings


def _using(modality: str) -> tuple[str, ...]:
    return (*(f"data={name}" for name, needs in data_needs().items() if modality in needs), *ENVS)


def _summary(values: pd.Series[object]) -> str:
    if values.dtype.kind == "b":
        return f"{int(values.sum())} of {len(values)} cells"
    if values.dtype.kind == "f":
        numbers = values.to_numpy(dtype=np.float64)
        return f"{numbers.min():g} to {numbers.max():g}"
    return f"{values.nunique()} values: {listed(sorted(set(values)), 5)}"
