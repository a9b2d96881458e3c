"""``source=moignard15``: qPCR of early blood development in the mouse (Moignard et al. 2015, supplementary table 7)."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl import registry
from perturbrl.data.fetch import Remote, obtain
from perturbrl.data.readers import ColumnKeys, assemble, sha256_of
from perturbrl.data.readers.tables import Layout, open_table
from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError

# Longest first: the names of 4SFG cells start with 4S as well.
STAGES = ("4SFG", "4SG", "HF", "NP", "PS")


@dataclass(frozen=True)
class MoignardConfig(Remote):
    """The publisher's .xlsx, or its sheet saved as .csv or .tsv."""

    sheet: str
    drop_genes: tuple[str, ...]


@registry.sources.register("moignard15", MoignardConfig)
def build(config: MoignardConfig) -> RawCells:
    """Read normalised dCt values, 3934 cells x 42 genes; ``cell_type`` is the sorted stage, taken from the cell's name.

    Raises
    ------
    UserError
        The file cannot be downloaded or read, or a cell's name starts with no known stage.
    """
    file = obtain(config)
    cell_file = open_table(file.path, Layout(rows="cells", member=None, sheet=config.sheet, drop=config.drop_genes))
    cells = cell_file.parts["rna"].cells
    stages = [next((s for s in STAGES if str(c).startswith(s)), None) for c in cells]
    if None in stages:
        bad = str(cells[stages.index(None)])
        raise UserError(
            f"{file.path}: cell {bad!r} does not start with a stage ({', '.join(STAGES)}); is this the dCt table?"
        )
    cell_file.obs["cell_type"] = stages
    keys = ColumnKeys(
        perturbation_key=None,
        control_label=None,
        batch_key=None,
        cell_type_key="cell_type",
        dose_key=None,
        pseudotime_key=None,
    )
    return assemble(cell_file, config.name, keys, file.sha256 or sha256_of(file.path))
