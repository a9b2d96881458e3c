"""Faults of a matrix that no task accepts. The reader raises the first; ``data validate`` lists all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perturbrl.data.readers.kinds import Profile, first_where, kind_of
from perturbrl.data.readers.opened import Part

LARGEST = 1e15  # larger than any measurement; its square is still finite in single precision
COUNT_LAYERS = frozenset({"counts", "count", "raw_counts", "umi", "umis", "umi_counts"})


@dataclass(frozen=True)
class Fault:
    """A fault (``what``) and how to correct it (``remedy``)."""

    what: str
    remedy: str


def size_fault(part: Part) -> Fault | None:
    """Return the fault in the sizes of a matrix, or None."""
    n, g = part.x.shape
    if (n, g) != (len(part.cells), len(part.features)):
        what = f"the matrix is {n} x {g}, but there are {len(part.cells)} cell and {len(part.features)} feature names"
        return Fault(what, "write the file again")
    return Fault(f"it is empty: {n} cells x {g} features", "check how the file was made") if 0 in (n, g) else None


def part_faults(part: Part, modality: str, summary: Profile) -> list[Fault]:
    """Return the faults of a matrix: sizes, empty names, values not finite or too large, invalid counts."""
    size = size_fault(part)
    if size is not None:
        return [size]
    faults = []
    for what, names in (("cell", part.cells), ("feature", part.features)):
        empty = np.flatnonzero(np.char.strip(names) == "")
        if len(empty):
            message = f"{len(empty)} empty {what} names, the first at position {empty[0]}"
            faults.append(Fault(message, f"every {what} needs a name"))
    if not summary.clean:
        cell, feature = _place(part, first_where(part.x, lambda v: ~np.isfinite(v)))
        message = (
            f"{summary.nan} NaN and {summary.infinite} infinite values, the first in cell {cell!r}, feature {feature!r}"
        )
        faults.append(Fault(message, "fill or remove them"))
    elif max(-summary.low, summary.high) > LARGEST:
        cell, feature = _place(part, first_where(part.x, lambda v: np.abs(v) > LARGEST))
        message = (
            f"values from {summary.low:g} to {summary.high:g} are too large, "
            f"the first in cell {cell!r}, feature {feature!r}"
        )
        faults.append(Fault(message, f"values lie between -{LARGEST:g} and {LARGEST:g}; check the matrix"))
    called_counts = part.location.rpartition("/")[2].lower() in COUNT_LAYERS
    if summary.negative and (summary.whole or called_counts):
        cell, feature = _place(part, first_where(part.x, lambda v: v < 0))
        message = f"{summary.negative} negative counts, the first in cell {cell!r}, feature {feature!r}"
        faults.append(Fault(message, "counts are whole numbers >= 0; read the original matrix"))
    elif called_counts and not summary.whole:
        message = (
            f"called counts, but not whole numbers ({summary.low:g} to {summary.high:g}): {_guess(summary, modality)}"
        )
        faults.append(Fault(message, "rename it, or choose another source.layer"))
    return faults


def _place(part: Part, at: tuple[int, int]) -> tuple[str, str]:
    return str(part.cells[at[0]]), str(part.features[at[1]])


def _guess(summary: Profile, modality: str) -> str:
    return "they look like logs" if kind_of(summary, modality) == "log" else "they were normalised or weighted"
