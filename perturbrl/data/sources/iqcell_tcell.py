"""``source=iqcell_tcell``: mouse T-cell development, the supplementary set of IQCELL (Heydari et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl import registry
from perturbrl.bounds import OneOf
from perturbrl.data.fetch import Remote, obtain
from perturbrl.data.readers import ColumnKeys, assemble, read_file, sha256_of
from perturbrl.data.readers.tables import Layout, is_table, open_table
from perturbrl.data.schema import RawCells


@dataclass(frozen=True)
class IqcellConfig(Remote, ColumnKeys):
    """The folder of IQCELL's repository as an archive; ``path`` may also be that folder, one table, or a .h5ad."""

    member: str | None
    rows: Annotated[str, OneOf("cells", "genes")]


@registry.sources.register("iqcell_tcell", IqcellConfig)
def build(config: IqcellConfig) -> RawCells:
    """Read an expression table; columns that are not numbers, and one of pseudotime, become annotations of cells.

    Raises
    ------
    UserError
        The file cannot be downloaded or read, or it has several tables and ``source.member`` is not set.
    """
    file = obtain(config)
    if not is_table(file.path):
        return read_file(file.path, config.name, None, "rna", config, file.sha256)
    cell_file = open_table(file.path, Layout(rows=config.rows, member=config.member, sheet=None, drop=()))
    return assemble(cell_file, config.name, config, file.sha256 or sha256_of(file.path))
