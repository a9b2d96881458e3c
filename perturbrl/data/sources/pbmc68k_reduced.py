"""``source=pbmc68k_reduced``: 700 blood cells that ship inside scanpy, so that real data needs no network."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from perturbrl import registry
from perturbrl.data.readers import ColumnKeys, read_file
from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError


@dataclass(frozen=True)
class Pbmc68kConfig:
    """The file's X is scaled per gene and only ``.raw`` holds logs, so only the column of labels can be chosen."""

    name: str
    cell_type_key: str


@registry.sources.register("pbmc68k_reduced", Pbmc68kConfig)
def build(config: Pbmc68kConfig) -> RawCells:
    """Read log-normalised RNA, 700 cells x 765 genes (Zheng et al. 2017), from the installed scanpy.

    Raises
    ------
    UserError
        scanpy is not installed, or its copy lacks the file.
    """
    keys = ColumnKeys(
        perturbation_key=None,
        control_label=None,
        batch_key=None,
        cell_type_key=config.cell_type_key,
        dose_key=None,
        pseudotime_key=None,
    )
    return read_file(shipped_file(), config.name, "raw", "rna", keys)


def shipped_file() -> Path:
    """Return the path of the file inside scanpy, found without importing scanpy."""
    spec = importlib.util.find_spec("scanpy")
    if spec is None or spec.origin is None:
        raise UserError(
            "source=pbmc68k_reduced is read from the scanpy package, which is not installed; run: pip install scanpy"
        )
    file = Path(spec.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"
    if not file.is_file():
        raise UserError(f"{file}: the installed scanpy lacks this file; reinstall scanpy, or use another source")
    return file
