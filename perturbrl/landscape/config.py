"""The settings of a landscape. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from perturbrl.bounds import NonNegativeFloat, Number, OneOf, PositiveFloat, PositiveInt, Seed
from perturbrl.config import fingerprint, require, without_added
from perturbrl.landscape.chosen import RANDOM, chosen_network, content, read_network
from perturbrl.landscape.interventions import Perturbations, parse, require_genes
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import SHIPPED
from perturbrl.landscape.wiring import FAMILIES, FEWEST, MOST

VERSION = 1
"""Part of the checksum: raise it when the same settings would give other cells."""
MANY = 100
"""With more conditions than this, control has a tenth of the cells at least."""


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
    perturbations: Annotated[Any, Perturbations()]
    overexpression: PositiveFloat
    rna_depth: PositiveFloat
    atac_depth: PositiveFloat
    protein_depth: PositiveFloat
    dropout: Annotated[float, Number(least=0, below=1)]
    n_batches: PositiveInt
    batch_effect: NonNegativeFloat
    network: str
    family: Annotated[str, OneOf(*FAMILIES)]
    n_regulators: Annotated[int | None, Number(least=FEWEST, most=MOST)]
    network_seed: Seed
    capture: Annotated[float, Number(above=0, most=1)]

    def check(self, where: str) -> None:
        """Raise ``UserError`` for no such network or gene, too few cells for the perturbations, too many proteins."""
        key, drawn = f"{where}.n_regulators", self.network == RANDOM
        wanted = f"is needed for {where}.network={RANDOM}: the number of its genes, such as 200"
        require(not drawn or self.n_regulators is not None, key, wanted)
        other = f"is for {where}.network={RANDOM}; {self.network} has its own genes, leave it null"
        require(drawn or self.n_regulators is None, key, other)
        if not drawn:
            self._require_genes(read_network(self.network), f"{where}.perturbations")
        n = self.n_conditions
        least = 2 * n if n > MANY else n
        named = self.perturbations if isinstance(self.perturbations, str) else f"a list of {len(self.perturbations)}"
        few = f"must be at least {least} for {where}.perturbations={named}, got {self.n_cells}"
        require(self.n_cells >= least, f"{where}.n_cells", few)
        most = f"must be at most {where}.n_target_genes={self.n_target_genes}, got {self.n_proteins}"
        require(self.n_proteins <= self.n_target_genes, f"{where}.n_proteins", most)

    def _require_genes(self, network: Network, key: str) -> None:
        if isinstance(self.perturbations, str):
            return
        for index, name in enumerate(self.perturbations):
            require_genes(parse(name), network.genes, f"{key}[{index}]")

    @property
    def from_file(self) -> bool:
        """Whether the network is read from a file."""
        return self.network not in (*SHIPPED, RANDOM)

    @property
    def n_genes(self) -> int:
        """The number of regulators."""
        return len(read_network(self.network).genes) if self.n_regulators is None else self.n_regulators

    @property
    def n_conditions(self) -> int:
        """The number of conditions, control among them."""
        if not isinstance(self.perturbations, str):
            return 1 + len(self.perturbations)
        singles = 1 + 2 * self.n_genes
        pairs = 2 * self.n_genes * (self.n_genes - 1)
        return {"none": 1, "single": singles, "double": singles + pairs}[self.perturbations]

    def load_network(self) -> Network:
        """Return the network.

        Raises
        ------
        UserError
            There is none, or a perturbation is of a gene that it does not have.
        """
        network = chosen_network(self.network, self.family, self.n_regulators, self.network_seed)
        self._require_genes(network, "source.perturbations")
        return network


def checksum(config: LandscapeConfig) -> str:
    """Return the sha256 of the settings and of the version of the simulator; for a network of a file, of its rules."""
    settings: dict[str, Any] = without_added("source", asdict(config))
    if config.from_file:
        settings["network"] = content(read_network(config.network))
    return fingerprint({**settings, "version": VERSION})
