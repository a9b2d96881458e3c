"""The settings of a landscape. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from perturbrl.bounds import NonNegativeFloat, Number, OneOf, PositiveFloat, PositiveInt, Seed
from perturbrl.config import fingerprint, require

VERSION = 1
"""Part of the checksum: raise it when the same settings would give other cells."""
PERTURBATIONS = ("none", "single", "double")
N_REGULATORS = 11


@dataclass(frozen=True)
class LandscapeConfig:
    """What to simulate; the meaning and unit of each key stands in ``conf/source/landscape.yaml``."""

    name: str
    seed: Seed
    n_cells: PositiveInt
    n_target_genes: PositiveInt
    n_peaks: PositiveInt
    n_proteins: PositiveInt
    noise: NonNegativeFloat
    perturbations: Annotated[str, OneOf(*PERTURBATIONS)]
    overexpression: PositiveFloat
    rna_depth: PositiveFloat
    atac_depth: PositiveFloat
    protein_depth: PositiveFloat
    dropout: Annotated[float, Number(least=0, below=1)]
    n_batches: PositiveInt
    batch_effect: NonNegativeFloat

    def check(self, where: str) -> None:
        """Raise ``UserError`` for too few cells for the perturbations, or more proteins than genes."""
        singles = 1 + 2 * N_REGULATORS
        pairs = 2 * N_REGULATORS * (N_REGULATORS - 1)
        least = {"none": 1, "single": singles, "double": 2 * (singles + pairs)}[self.perturbations]
        few = f"must be at least {least} for {where}.perturbations={self.perturbations}, got {self.n_cells}"
        require(self.n_cells >= least, f"{where}.n_cells", few)
        most = f"must be at most {where}.n_target_genes={self.n_target_genes}, got {self.n_proteins}"
        require(self.n_proteins <= self.n_target_genes, f"{where}.n_proteins", most)


def checksum(config: LandscapeConfig) -> str:
    """Return the sha256 of the settings and of the version of the simulator."""
    return fingerprint({**asdict(config), "version": VERSION})
