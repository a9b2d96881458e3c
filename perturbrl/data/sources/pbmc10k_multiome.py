"""``source=pbmc10k_multiome``: RNA and ATAC of the same blood cells, the paper's data (10x Genomics, ARC 1.0.0)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl import registry
from perturbrl.bounds import OneOf
from perturbrl.data.fetch import Remote, obtain
from perturbrl.data.readers import ColumnKeys, read_file
from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError


@dataclass(frozen=True)
class MultiomeConfig(Remote, ColumnKeys):
    """The filtered feature-barcode matrix, or a copy of it in another format."""

    modality: Annotated[str, OneOf("auto", "rna", "atac")]
    layer: str | None


@registry.sources.register("pbmc10k_multiome", MultiomeConfig)
def build(config: MultiomeConfig) -> RawCells:
    """Read counts of genes and peaks, about 11 900 cells.

    Raises
    ------
    UserError
        The file cannot be downloaded or read, or ``modality: auto`` finds no RNA or no ATAC in it.
    """
    file = obtain(config)
    cells = read_file(file.path, config.name, config.layer, config.modality, config, file.sha256)
    if config.modality == "auto" and not {"rna", "atac"} <= set(cells.modalities):
        raise UserError(
            f"{file.path}: source={config.name} needs rna and atac in one file; it holds {', '.join(cells.modalities)}"
        )
    return cells
