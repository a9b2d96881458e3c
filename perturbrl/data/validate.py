"""``perturbrl data validate FILE``: what is there, what is missing, what each task needs, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from perturbrl import paths
from perturbrl.data.readers import Opened, assemble, map_columns, open_file
from perturbrl.data.readers.checks import COUNT_LAYERS, part_faults
from perturbrl.data.readers.columns import CONTROL, UNASSIGNED
from perturbrl.data.readers.kinds import Profile, constant_features, kind_of, profile
from perturbrl.data.readers.opened import Part, listed
from perturbrl.data.sources.file import FileConfig, default_config
from perturbrl.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

Severity = Literal["ok", "warning", "error"]
FEW_CELLS = 10
_ENVS = ("env=paper", "env=paper_discrete", "env=counterfactual")
_MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "error": ("ERROR", "red")}


@dataclass(frozen=True)
class Finding:
    """One thing seen in a file: where, what, how to mend it (empty if it is fine), and the tasks that it affects.

    An ``error`` keeps ``tasks`` from running; with a ``warning`` they run, or the file simply does not offer them.
    """

    severity: Severity
    where: str
    what: str
    mend: str
    tasks: tuple[str, ...]


def validate(path: str | Path, config: FileConfig | None = None) -> list[Finding]:
    """Examine a .h5ad, .h5mu or 10x .h5 file or a 10x mtx folder; every failure is a finding, none an exception.

    ``config`` says which layer, modality and columns are meant; None takes the defaults of ``source=file``.
    """
    file = Path(path).expanduser()
    try:
        keys = default_config(file) if config is None else config
        opened = open_file(file, keys.layer, keys.modality)
        findings = _examine(opened, keys)
        if not any(f.severity == "error" for f in findings):
            assemble(opened, file.stem, keys, checksum="")
    except UserError as error:
        return [Finding("error", "file", str(error), "see the message", everything())]
    except Exception as error:  # what no check foresaw is reported like any other fault of the file
        what = f"{file}: cannot be examined ({type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]})"
        return [Finding("error", "file", what, "write the file again with a current anndata or mudata", everything())]
    return findings + _tasks(opened, findings)


def table(findings: list[Finding]) -> Table:
    """Return the findings as a rich table."""
    from rich.table import Table
    from rich.text import Text

    out = Table(show_lines=False, header_style="bold")
    for heading in ("", "where", "what", "to mend it", "affects"):
        out.add_column(heading, overflow="fold")
    for f in findings:
        mark, colour = _MARKS[f.severity]
        out.add_row(Text(mark, style=colour), *(Text(t) for t in (f.where, f.what, f.mend, " ".join(f.tasks))))
    return out


def render(findings: list[Finding], width: int = 140) -> str:
    """Return the findings as text of at most ``width`` columns."""
    from rich.console import Console

    stream = StringIO()
    Console(file=stream, width=width, color_system=None).print(table(findings))
    return stream.getvalue()


def data_needs() -> dict[str, tuple[str, ...]]:
    """Return the modalities that each choice of ``data=`` needs, as its YAML says."""
    needs: dict[str, tuple[str, ...]] = {}
    for file in sorted((paths.conf_dir() / "data").glob("*.yaml")):
        modalities = OmegaConf.select(OmegaConf.load(file), "modalities")
        if modalities is not None:
            needs[f"data={file.stem}"] = tuple(str(m) for m in modalities)
    return needs


def everything() -> tuple[str, ...]:
    """Return the names of all tasks that a file can serve."""
    return (*data_needs(), *_ENVS)


def _examine(opened: Opened, keys: FileConfig) -> list[Finding]:
    sizes = ", ".join(f"{m} {p.x.shape[0]} x {p.x.shape[1]}" for m, p in opened.parts.items())
    findings = [Finding("ok", "file", f"{opened.format}, cells x features: {sizes}", "", ())]
    findings += [Finding("warning", "file", note, "", ()) for note in opened.notes]
    for modality, part in opened.parts.items():
        affected = _using(modality)
        seen = profile(part.x)
        faults = part_faults(part, modality, seen)
        findings += [Finding("error", part.where, f.what, f.mend, affected) for f in faults]
        if not faults:
            findings += _values(part, modality, seen, affected) + _constant(part, affected)
        findings += _names(part, affected) + _count_layers(opened, keys, modality, part)
    return findings + _matching(opened) + _columns(opened, keys)


def _values(part: Part, modality: str, seen: Profile, affected: tuple[str, ...]) -> list[Finding]:
    kind = kind_of(seen, modality)
    layers = f"; layers: {listed(part.layers)}" if part.layers else ""
    found = [Finding("ok", part.where, f"{modality}: {kind}, from {seen.low:g} to {seen.high:g}{layers}", "", ())]
    counts = [k for k in part.layers if k.lower() in COUNT_LAYERS]
    if kind == "counts" and part.logged:
        what, mend = (
            "uns['log1p'] says these are logs, but all are whole numbers",
            "remove uns['log1p'] if these are counts",
        )
        found.append(Finding("warning", part.where, what, mend, affected))
    if kind == "continuous" and modality == "atac" and not seen.negative:
        found.append(Finding("ok", part.where, "weighted, not counted: only whether a value is > 0 is used", "", ()))
    elif kind in ("log", "continuous"):
        what = {
            "log": "logs, not counts: they are used as they are, and never normalised again",
            "continuous": "neither counts nor logs (scaled, weighted or not logged): used as they are",
        }[kind]
        mend = (
            f"source.layer={counts[0]} reads counts" if counts else "keep counts in layers['counts'] if you have them"
        )
        found.append(Finding("ok" if kind == "log" else "warning", part.where, what, mend, ()))
    return found


def _constant(part: Part, affected: tuple[str, ...]) -> list[Finding]:
    constant = part.features[constant_features(part.x)]
    if not len(constant):
        return []
    what = f"{len(constant)} of {part.x.shape[1]} features have the same value in every cell: {listed(constant)}"
    if len(constant) == part.x.shape[1]:
        return [Finding("error", part.where, what, "there is nothing to learn from; check the matrix", affected)]
    return [Finding("warning", part.where, what, "they are left out when features are chosen", ())]


def _names(part: Part, affected: tuple[str, ...]) -> list[Finding]:
    found = []
    for what, names in (("cell", part.cells), ("feature", part.features)):
        index = pd.Index(names)
        repeated = index[index.duplicated()].unique()
        if len(repeated):
            said = f"{len(repeated)} {what} names occur more than once: {listed(repeated)}"
            mend = f"they are told apart as {repeated[0]}, {repeated[0]}-1, ...; rename them if that is not meant"
            found.append(Finding("warning", part.where, said, mend, affected))
    return found


def _count_layers(opened: Opened, keys: FileConfig, modality: str, part: Part) -> list[Finding]:
    """Look into layers called counts that were not chosen: logs there would be taken for counts by whoever does."""
    found = []
    for name in part.layers:
        if name.lower() not in COUNT_LAYERS or part.where.endswith(f"layers/{name}"):
            continue
        try:
            other = open_file(opened.path, name, keys.modality).parts[modality]
        except UserError as error:
            found.append(Finding("error", f"layers/{name}", str(error), "remove or rewrite the layer", ()))
            continue
        faults = part_faults(other, modality, profile(other.x))
        found += [Finding("error", other.where, f.what, f.mend, (f"source.layer={name}",)) for f in faults]
    return found


def _matching(opened: Opened) -> list[Finding]:
    if len(opened.parts) < 2:
        return []
    both = tuple(task for task, needs in data_needs().items() if len(needs) > 1)
    indexes = [pd.Index(p.cells) for p in opened.parts.values()]
    repeated = [p.where for p, i in zip(opened.parts.values(), indexes, strict=True) if i.has_duplicates]
    if repeated and opened.format == "h5mu":
        what = f"cell names are repeated in {listed(repeated)}, so the modalities cannot be matched"
        return [Finding("error", "cells", what, "make obs_names unique", both)]
    common = indexes[0]
    for index in indexes[1:]:
        common = common.intersection(index)
    largest = max(len(i) for i in indexes)
    sizes = ", ".join(f"{m} {len(p.cells)}" for m, p in opened.parts.items())
    if not len(common):
        return [
            Finding(
                "error",
                "cells",
                f"the modalities have no cell in common ({sizes})",
                "give both the same obs_names",
                both,
            )
        ]
    if len(common) < largest:
        what = f"only {len(common)} cells are in every modality ({sizes})"
        mend = "the others are left out; source.modality=rna (or atac, protein) keeps all of one"
        return [Finding("warning", "cells", what, mend, both)]
    return [Finding("ok", "cells", f"all {len(common)} cells are in every modality", "", ())]


def _columns(opened: Opened, keys: FileConfig) -> list[Finding]:
    target = ("env=counterfactual",)
    try:
        mapped = map_columns(opened.obs, keys, "obs")
    except UserError as error:
        return [Finding("error", "obs", str(error), "correct the key, or leave it null", everything())]
    obs, found = mapped.obs, [Finding("warning", "obs", note, "", ()) for note in mapped.notes]
    for standard, column in mapped.found.items():
        found.append(Finding("ok", f"obs[{column!r}]", f"{standard}: {_summary(obs[standard])}", "", ()))
    if "perturbation" not in obs:
        what = f"no column of perturbations (columns: {listed(opened.obs.columns)})"
        found.append(Finding("warning", "obs", what, "name it with source.perturbation_key", target))
    else:
        sizes = obs["perturbation"].value_counts()
        if UNASSIGNED in sizes:
            what = f"{sizes[UNASSIGNED]} of {len(obs)} cells have no perturbation"
            found.append(
                Finding("warning", "obs", what, "they count as 'unassigned'; remove them if that is not meant", target)
            )
        few = sizes[(sizes < FEW_CELLS) & ~sizes.index.isin([CONTROL, UNASSIGNED])]
        if len(few):
            what = f"{len(few)} perturbations have fewer than {FEW_CELLS} cells: {listed(few.index)}"
            found.append(Finding("warning", "obs", what, "too few to score; leave them out or pool them", target))
    if "perturbation" in obs and ("is_control" not in obs or not obs["is_control"].any()):
        what = f"no control cells: none of {listed(sorted(set(obs['perturbation'])))} is a usual name for control"
        found.append(Finding("error", "obs", what, "say which with source.control_label", target))
    if "pseudotime" not in obs:
        found.append(
            Finding(
                "ok",
                "obs",
                "no pseudotime: diffusion pseudotime is computed",
                "source.pseudotime_key names a column",
                (),
            )
        )
    return found


def _tasks(opened: Opened, findings: list[Finding]) -> list[Finding]:
    """Say of each task whether this file can serve it."""
    blocked = {task for f in findings if f.severity == "error" for task in f.tasks}
    rows = []
    for task, needs in data_needs().items():
        missing = [m for m in needs if m not in opened.parts]
        if missing:
            what = f"not offered: needs {' and '.join(needs)}, the file has {listed(opened.parts)}"
            rows.append(Finding("warning", "task", what, "", (task,)))
        else:
            rows.append(_ready(task, blocked, f"{' and '.join(needs)}"))
    served = any(row.severity == "ok" for row in rows)
    for env in _ENVS:
        offered = env != "env=counterfactual" or any(f.what.startswith("perturbation: ") for f in findings)
        if not offered:
            rows.append(Finding("warning", "task", "not offered: needs perturbations and control cells", "", (env,)))
        else:
            what = "perturbations and control cells" if env == "env=counterfactual" else "any one modality"
            rows.append(_ready(env, blocked if served else blocked | {env}, what))
    what = "not offered by any file: needs the executable landscape"
    rows.append(Finding("ok", "task", what, "source=landscape", ("env=fate",)))
    return [row if _exists(row.tasks[0]) else replace(row, what=f"{row.what}; not in this version yet") for row in rows]


def _exists(task: str) -> bool:
    group, _, choice = task.partition("=")
    return (paths.conf_dir() / group / f"{choice}.yaml").exists()


def _ready(task: str, blocked: set[str], needs: str) -> Finding:
    if task in blocked:
        return Finding(
            "error",
            "task",
            f"needs {needs}: there, but an error above stands in the way",
            "mend the errors above",
            (task,),
        )
    return Finding("ok", "task", f"ready (needs {needs})", "", (task,))


def _using(modality: str) -> tuple[str, ...]:
    return (*(task for task, needs in data_needs().items() if modality in needs), *_ENVS)


def _summary(values: pd.Series[object]) -> str:
    if values.dtype.kind == "b":
        return f"{int(values.sum())} of {len(values)} cells"
    if values.dtype.kind == "f":
        numbers = values.to_numpy(dtype=np.float64)
        return f"{numbers.min():g} to {numbers.max():g}"
    return f"{values.nunique()} values: {listed(sorted(set(values)), 5)}"
