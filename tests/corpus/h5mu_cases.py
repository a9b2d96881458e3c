"""Malformed .h5mu files: one modality at fault, or how they fit together."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from .cases import ALL, Case, Collection, N, at, attribute, both, cut, inside, link, noise, put, without


def of_h5mu() -> list[Case]:
    c = Collection("h5mu", "h5mu", ALL)
    c.refused("rna_nan", r"mod/rna/X: 1 NaN", at("mod/rna/X/data", 3, np.nan))
    c.refused("atac_nan", r"mod/atac/X: 1 NaN.*source.modality=", at("mod/atac/X/data", 3, np.nan), True)
    c.refused("protein_negative", r"mod/prot/X: 1 negative counts", at("mod/prot/X/data", 3, -1))
    c.refused("atac_index_beyond", r"mod/atac/X.*ind", at("mod/atac/X/indices", 3, 20))
    c.refused("protein_index_negative", r"mod/prot/X.*ind", at("mod/prot/X/indices", 3, -1))
    c.refused("rna_pointer_decreases", r"mod/rna/X.*indptr", at("mod/rna/X/indptr", 60, 0))
    c.refused("atac_called_csc", r"mod/atac/X", attribute("mod/atac/X", "encoding-type", "csc_matrix"))
    c.refused("atac_shape_huge", r"mod/atac/X", attribute("mod/atac/X", "shape", np.array([10**12, 20])))
    c.refused("rna_codes_beyond", r"cod", at("mod/rna/obs/batch/codes", 3, 99))
    c.refused("rna_obs_short", r"119|length", put("mod/rna/obs/_index", lambda i: i[:-1]))
    c.refused("rna_var_gone", r"", without("mod/rna/var"))
    c.refused("atac_matrix_gone", r"mod/atac/X is not in the file", without("mod/atac/X"))
    c.refused("atac_is_numbers", r"", both(without("mod/atac"), put("mod/atac", np.arange(4))))
    c.refused("mod_is_numbers", r"", both(without("mod"), put("mod", np.arange(4))))
    c.refused("mod_empty", r"there is no rna/gex", without("mod/rna", "mod/atac", "mod/prot"))
    c.ready("mod_atac_gone", without("mod/atac"), ("rna", "cite"))
    c.ready("rna_only", without("mod/atac", "mod/prot"), ("rna",))
    c.ready("atac_only", without("mod/rna", "mod/prot"), ("atac",))
    c.refused("protein_only", r"has no rna.*no choice of data= fits it", without("mod/rna", "mod/atac"))
    c.refused("unknown_names_only", r"there is no rna/gex", _renamed({"rna": "x", "atac": "y", "prot": "z"}))
    c.ready("unknown_name_beside", _renamed({"atac": "riddle"}), ("rna", "cite"))
    c.refused("two_of_a_kind", r"two modalities are both rna", _renamed({"atac": "gex"}))
    c.refused("no_common_cell", r"no cell in common", _prefixed("mod/atac/obs/_index", N))
    c.ready("few_common_cells", _prefixed("mod/atac/obs/_index", N - 30))
    c.refused("ten_common_cells", r"cells", _prefixed("mod/atac/obs/_index", N - 10))
    c.refused("cell_names_twice", r"repeated cell names", at("mod/atac/obs/_index", 3, b"cell4"))
    c.ready("cells_in_another_order", put("mod/atac/obs/_index", lambda i: i[::-1]))
    c.ready("obs_gone", without("obs"))
    c.ready("obsmap_broken", put("obsmap/rna", np.zeros(2)))
    c.ready("peaks_all_closed", put("mod/atac/X/data", lambda x: x * 0), ("rna", "cite"))
    c.ready("proteins_constant", put("mod/prot/X/data", lambda x: x * 0), ("rna", "atac", "joint"))
    c.ready("rna_constant", put("mod/rna/X/data", lambda x: x * 0), ("atac",))
    c.ready("peaks_weighted", put("mod/atac/X/data", lambda x: x + 0.5))
    c.ready("peaks_negative_fractions", put("mod/atac/X/data", lambda x: x - 0.5))
    c.ready("proteins_logged", put("mod/prot/X/data", lambda x: np.log1p(x)))
    c.refused("proteins_1e30", r"too large", put("mod/prot/X/data", lambda x: x * 1e30))
    c.refused("external_link_modality", r"(external|link)", link("mod/atac", h5py.ExternalLink("other.h5", "/x")))
    c.refused("external_link_matrix", r"(external|link)", link("mod/rna/X", h5py.ExternalLink("other.h5", "/x")))
    c.refused("soft_loop", r"", link("mod/atac", h5py.SoftLink("/mod/atac")))
    c.refused("soft_loop_matrix", r"", link("mod/rna/X", h5py.SoftLink("/mod/rna/X")))
    c.refused("modality_twice_by_link", r"two modalities are both rna", link("mod/gex", h5py.SoftLink("/mod/rna")))
    for percent in (10, 50, 90):
        c.refused(f"cut_at_{percent}", r"truncated|damaged|cannot be read", cut(percent / 100))
    for seed in range(4):
        c.either(f"noise_{seed}", noise(100 + seed))
    return c.cases


def _renamed(names: dict[str, str]):
    def change(file: h5py.File) -> None:
        for old, new in names.items():
            file.move(f"mod/{old}", f"mod/{new}")

    return inside(change)


def _prefixed(where: str, n: int):
    """Give the last n cells names that no other modality has."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            names = file[where][()]
            names[N - n :] = [b"other" + name for name in names[N - n :]]
            file[where][...] = names

    return change
