"""``source=file path=...``: a file of the user."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from omegaconf import OmegaConf

from perturbrl import paths, registry
from perturbrl.bounds import OneOf
from perturbrl.config import bind
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


def default_config(path: str | Path) -> FileConfig:
    """Return the config of ``conf/source/file.yaml`` with ``path`` filled in."""
    node = OmegaConf.create({"path": str(path), "source": OmegaConf.load(paths.conf_dir() / "source" / "file.yaml")})
    config = bind(FileConfig, node.source, "source")
    return dataclasses.replace(config, path=str(path))
