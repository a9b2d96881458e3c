"""The modality of a matrix, or of each of its features."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from perturbrl.data.readers.opened import Part, listed
from perturbrl.errors import UserError

AUTO = "auto"
_NAMES = {
    "rna": ("rna", "gex", "gene", "genes", "geneexpression", "expression", "scrna", "transcriptome"),
    "atac": ("atac", "peak", "peaks", "scatac", "chromatinaccessibility"),
    "protein": ("protein", "proteins", "prot", "adt", "antibodycapture", "cite", "antibody"),
}
_PEAK = re.compile(r"^(chr)?[A-Za-z0-9._]+[:_-]\d+[-_]\d+$")
_ANTIBODY = re.compile(r"totalseq|(^|[_.-])adt([_.-]|$)", re.IGNORECASE)


def modality_named(name: str) -> str | None:
    """Return the modality that a 10x feature type or an h5mu modality name stands for, None if unknown."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    return next((modality for modality, names in _NAMES.items() if plain in names), None)


def guess_modality(features: NDArray[np.str_]) -> str:
    """Guess from names: ATAC if nine in ten look like ``chr1:100-200``, protein if half carry a tag, else RNA."""
    n = max(1, len(features))
    if sum(bool(_PEAK.match(f)) for f in features) >= 0.9 * n and len(features):
        return "atac"
    if sum(bool(_ANTIBODY.search(f)) for f in features) >= 0.5 * n and len(features):
        return "protein"
    return "rna"


def split(part: Part, types: NDArray[np.str_] | None) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Split a matrix by the type of its features.

    ``types`` [G] are feature types as 10x writes them. Without them, or if all are unknown, the matrix is one modality,
    guessed from the names of its features. Returns parts by modality, and notes on features that are not used.
    """
    type_modalities = {t: modality_named(t) for t in np.unique(types).tolist()} if types is not None else {}
    if types is None or not any(type_modalities.values()):
        return {guess_modality(part.features): part}, ()
    notes = tuple(
        f"{part.location}: {int((types == t).sum())} features of type {t!r} are not used"
        for t, m in type_modalities.items()
        if m is None
    )
    parts: dict[str, Part] = {}
    for modality in _NAMES:
        mask = np.isin(types, [t for t, m in type_modalities.items() if m == modality])
        if mask.all():
            return {modality: part}, notes
        if mask.any():
            parts[modality] = Part(
                part.location, part.x[:, mask], part.features[mask], part.cells, part.layers, part.logged
            )
    return parts, notes


def choose(parts: dict[str, Part], modality: str, sure: bool, location: str) -> dict[str, Part]:
    """Keep one modality, or all for ``auto``.

    A single matrix whose modality the file does not state (``sure`` is false) is taken to be ``modality``.

    Raises
    ------
    UserError
        The file has no such modality.
    """
    if modality == AUTO or modality in parts:
        return parts if modality == AUTO else {modality: parts[modality]}
    if len(parts) == 1 and not sure:
        return {modality: next(iter(parts.values()))}
    raise UserError(f"{location}: there is no modality {modality!r} in the file; it holds {listed(parts)}")
