"""Write the example files of this folder again, from the embedded landscape: ``python data/make_examples.py [FOLDER]``.

- ``screen.h5ad``: RNA of a CRISPR knock-out screen: control, 11 single genes, 27 of their 55 pairs.
- ``joint.h5mu``: RNA and ATAC of the same unperturbed cells.
- ``growth.csv``: one growth score for each single perturbation and each pair, as a pooled growth screen gives.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from perturbrl import paths
from perturbrl.config import bind
from perturbrl.data.schema import RawCells
from perturbrl.landscape.source import LandscapeConfig, build

CELLS = 22  # of each condition of screen.h5ad; with fewer than conditions.min_cells=20 it would be left out
CONTROLS = 150
GROWTH_CELLS = 12_000
DIVIDING = ("progenitor", "undecided")


def landscape(**settings: object) -> RawCells:
    """Return cells of the landscape, with the defaults of ``conf/source/landscape.yaml`` but for ``settings``."""
    node = OmegaConf.load(paths.conf_dir() / "source" / "landscape.yaml")
    small = {"n_target_genes": 49, "n_peaks": 60, "n_proteins": 5, "rna_depth": 400.0, "atac_depth": 60.0}
    return build(dataclasses.replace(bind(LandscapeConfig, node, "source"), **(small | settings)))


def as_anndata(cells: RawCells, modality: str, columns: list[str]) -> anndata.AnnData:
    """Return one modality with the named columns of ``obs``."""
    measured = cells.modalities[modality]
    var = pd.DataFrame(index=pd.Index(measured.features.astype(object)))
    return anndata.AnnData(measured.x.astype(np.float32), obs=cells.obs[columns].copy(), var=var)


def screen(cells: RawCells) -> anndata.AnnData:
    """Return knock-outs of a landscape that has all pairs; a condition is named by its genes: ``Gata1+Pu1``."""
    adata = as_anndata(cells, "rna", ["perturbation", "batch", "cell_type"])
    labels = adata.obs["perturbation"].str.replace("_ko", "")
    pairs = sorted(name for name in labels.unique() if "+" in name and "_oe" not in name)
    used = ~labels.str.contains("_oe") & ~labels.isin(pairs[::2])
    used &= labels.groupby(labels).cumcount() < labels.map(lambda name: CONTROLS if name == "control" else CELLS)
    adata.obs["perturbation"] = labels
    return adata[used.to_numpy()].copy()


def joint() -> mudata.MuData:
    """Return RNA and ATAC counts of 240 unperturbed cells."""
    cells = landscape(n_cells=240, seed=1)
    rna = as_anndata(cells, "rna", ["cell_type", "pseudotime", "batch"])
    return mudata.MuData({"rna": rna, "atac": as_anndata(cells, "atac", [])})


def growth(cells: RawCells) -> pd.DataFrame:
    """Return the growth score of each perturbation, in each batch and over both.

    Cells that are not committed to a fate divide once, others do not. The score is log2 of the growth of a perturbed
    population relative to that of the controls: 0 grows like the controls, below 0 slower.
    """
    divides = cells.obs["cell_type"].isin(DIVIDING).astype(float)
    frame = cells.obs.assign(growth=1.0 + divides)
    by_batch = frame.groupby(["perturbation", "batch"])["growth"].mean().unstack()
    both = frame.groupby("perturbation")["growth"].mean()
    scores = pd.concat([by_batch, both.rename("score")], axis=1)
    scores = np.log2(scores / scores.loc["control"]).round(4) + 0.0  # no minus zero
    scores.columns = ["replicate1", "replicate2", "score"]
    scores.insert(0, "n_cells", frame.groupby("perturbation").size())
    order = sorted(scores.index, key=lambda name: (name != "control", name.count("+"), name))
    return scores.loc[order].rename_axis("perturbation")


def compact(file: Path) -> None:
    """Write an HDF5 file again in the newer file format, which spends far less space on each of many small arrays."""
    old = file.rename(file.with_suffix(".old"))
    with h5py.File(old) as source, h5py.File(file, "w", libver="latest") as target:
        copy_group(source, target)
    old.unlink()


def copy_group(source: h5py.Group, target: h5py.Group) -> None:
    """Copy attributes and members; ``h5py.Group.copy`` would keep the old format of the groups inside."""
    target.attrs.update(source.attrs)
    for name, member in source.items():
        if isinstance(member, h5py.Group):
            copy_group(member, target.create_group(name, track_order=False))
        else:
            source.copy(name, target)


def main(folder: Path) -> None:
    """Write all three files into ``folder``."""
    cells = landscape(perturbations="double", n_cells=GROWTH_CELLS)
    screen(cells).write_h5ad(folder / "screen.h5ad", compression="gzip")
    joint().write_h5mu(folder / "joint.h5mu", compression="gzip")
    for name in ("screen.h5ad", "joint.h5mu"):
        compact(folder / name)
    growth(cells).to_csv(folder / "growth.csv", lineterminator="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
