"""``source=file path=...``: a file of the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from perturbrl import registry
from perturbrl.bounds import OneOf
from perturbrl.data.readers import ColumnKeys, read_file
from perturbrl.data.schema import MODALITIES, RawCells
from perturbrl.errors import UserError


@dataclass(frozen=True)
class FileConfig(ColumnKeys):
    """The file, the matrix to read, and the columns to use."""

    name: str
    path: str | None
    modality: Annotated[str, OneOf("auto", *MODALITIES)]
    layer: str | None


@registry.sources.register("file", FileConfig)
def build(config: FileConfig) -> RawCells:
    """Read a .h5ad, .h5mu or 10x .h5 file or a 10x mtx folder.

    Raises
    ------
    UserError
        No path is given, or as ``readers.read_file``.
    """
    if config.path is None:
        raise UserError(
            "source=file needs path=FILE: a .h5ad, .h5mu or 10x .h5 file, or a 10x folder with matrix.mtx[.gz]"
        )
    path = Path(config.path).expanduser()
    return read_file(path, path.stem, config.layer, config.modality, config)
