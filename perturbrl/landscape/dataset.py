"""From settings to a data set: wire the genes, simulate, measure, and put a name on everything.

Letters: N cells, G regulators, M target genes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from perturbrl import rng
from perturbrl.data.schema import Modality, RawCells
from perturbrl.landscape import labels, modalities, perturb
from perturbrl.landscape.config import MANY, LandscapeConfig
from perturbrl.landscape.interventions import CONTROL
from perturbrl.landscape.kinetics import Targets
from perturbrl.landscape.modalities import Assay
from perturbrl.landscape.network import Network
from perturbrl.landscape.simulate import Trajectories, simulate


@dataclass(frozen=True)
class Design:
    """What a landscape is before any cell: wiring, assays, and the perturbation and batch of each of N cells."""

    network: Network
    targets: Targets
    assays: dict[str, Assay]
    names: list[str]
    batch: torch.Tensor


def simulate_cells(config: LandscapeConfig, checksum: str) -> RawCells:
    """Return N simulated cells with RNA, ATAC and protein counts.

    ``obs`` has pseudotime (float in [0, 1]), fate (where the cell's trajectory ends, ``undecided`` where in none),
    cell_type (what it is when seen), batch, perturbation (``control``, ``Gata1_ko``, ``Gata1_oe``, ...) and is_control.
    """
    with one_thread():
        made = design(config)
        done = courses(config, made.network, made.names)
        draws, start = (
            stream(config, "dynamics"),
            starts(config, made.network, len(made.names), stream(config, "start")),
        )
        cells = simulate(made.network, done, 1, draws, noise=config.noise, targets=made.targets, start=start)
        return RawCells(
            "landscape",
            _measure(config, cells, made.assays, made.batch, made.network),
            describe_cells(cells, made.network, made.names, made.batch),
            checksum,
        )


def design(config: LandscapeConfig) -> Design:
    """Draw everything that is not a cell's own."""
    network = config.load_network()
    wiring = stream(config, "wiring")
    targets = modalities.wire_targets(len(network.genes), config.n_target_genes, wiring)
    assays = _assays(config, len(network.genes), wiring)
    names = _conditions(config, network)
    batch = torch.randint(config.n_batches, (len(names),), generator=stream(config, "batch"))
    return Design(network, targets, assays, names, batch)


def starts(config: LandscapeConfig, network: Network, n_cells: int, draws: torch.Generator) -> torch.Tensor | None:
    """Return the states [N, G] in which cells begin: random ones for a file, which names no progenitor; else None."""
    if network.start or not config.from_file:
        return None
    return torch.randint(2, (n_cells, len(network.genes)), generator=draws).float()


def courses(config: LandscapeConfig, network: Network, names: Sequence[str]) -> perturb.Course:
    """Return what is done to N cells under the perturbations ``names``."""
    every = [*dict.fromkeys(names)]
    row = {name: k for k, name in enumerate(every)}
    return perturb.course(network, every, config.overexpression).rows(torch.tensor([row[name] for name in names]))


def gene_names(network: Network, n_targets: int) -> list[str]:
    """Return the names of the G regulators and of the M target genes."""
    width = len(str(n_targets))
    return [*network.genes, *(f"target{k:0{width}d}" for k in range(1, n_targets + 1))]


def kinds(config: LandscapeConfig, network: Network) -> tuple[str, ...]:
    """Return the perturbations of a landscape, the control first."""
    if not isinstance(config.perturbations, str):
        return CONTROL, *config.perturbations
    every = {"single": perturb.single_perturbations, "double": perturb.double_perturbations}
    return every[config.perturbations](network) if config.perturbations in every else (CONTROL,)


def _conditions(config: LandscapeConfig, network: Network) -> list[str]:
    """Return the perturbation of each of N cells, in random order: equal shares, control takes the rest.

    Among many, control has a tenth at least: one condition in 243 would leave too few cells to compare with.
    """
    every = kinds(config, network)
    control = config.n_cells // 10 if len(every) > MANY else config.n_cells // len(every)
    shares = np.full(len(every), (config.n_cells - control) // max(1, len(every) - 1))
    shares[0] = config.n_cells - shares[1:].sum()
    names = np.repeat(every, shares)
    return [str(name) for name in rng.numpy_generator(config.seed, "landscape", "conditions").permutation(names)]


def _assays(config: LandscapeConfig, n_regulators: int, generator: torch.Generator) -> dict[str, Assay]:
    n_genes = n_regulators + config.n_target_genes
    return {
        "rna": modalities.all_genes(n_genes, generator),
        "atac": modalities.peaks(config.n_peaks, n_genes, generator),
        "protein": modalities.surface_proteins(config.n_proteins, n_regulators, config.n_target_genes, generator),
    }


@dataclass(frozen=True)
class Signal:
    """What an assay would read of N cells without noise ([N, Q]), and how deeply and how lossily it is read."""

    expected: torch.Tensor
    depth: float
    dropout: float


def signals(config: LandscapeConfig, cells: Trajectories, assays: dict[str, Assay]) -> dict[str, Signal]:
    """Return the signal of each modality."""
    levels = {"rna": cells.mrna, "atac": cells.accessibility, "protein": cells.protein}
    # Surface proteins are read with antibodies: the losses of sequencing single molecules are not theirs.
    depths = {
        "rna": config.capture * config.rna_depth,
        "atac": config.capture * config.atac_depth,
        "protein": config.protein_depth,
    }
    dropout = {"rna": config.dropout, "atac": config.dropout, "protein": 0.0}
    return {
        key: Signal(modalities.expected(levels[key].squeeze(1), assay), depths[key], dropout[key])
        for key, assay in assays.items()
    }


def _measure(
    config: LandscapeConfig, cells: Trajectories, assays: dict[str, Assay], batch: torch.Tensor, network: Network
) -> dict[str, Modality]:
    genes = gene_names(network, config.n_target_genes)
    measured = {}
    for key, signal in signals(config, cells, assays).items():
        draws = stream(config, key)
        counts = modalities.counts(signal.expected, signal.depth, signal.dropout, batch, config.batch_effect, draws)
        measured[key] = as_modality(key, counts, assays[key], genes)
    return measured


def as_modality(key: str, counts: torch.Tensor, assay: Assay, genes: Sequence[str]) -> Modality:
    """Return counts [N, Q] with the names of their features, sparse but for proteins."""
    x = counts.numpy() if key == "protein" else sparse.csr_matrix(counts.numpy())
    return Modality(x, feature_names(key, assay.gene.tolist(), genes), "counts")


def feature_names(key: str, gene: Sequence[int], genes: Sequence[str]) -> NDArray[np.str_]:
    """Name a gene by itself, the k-th peak of a gene ``gene:peak<k>``, the protein of a gene ``gene:protein``."""
    if key == "rna":
        return np.array([genes[g] for g in gene])
    if key == "protein":
        return np.array([f"{genes[g]}:protein" for g in gene])
    count: Counter[int] = Counter()
    names = []
    for g in gene:
        count[g] += 1
        names.append(f"{genes[g]}:peak{count[g]}")
    return np.array(names)


def describe_cells(cells: Trajectories, network: Network, names: Sequence[str], batch: torch.Tensor) -> pd.DataFrame:
    """Return obs of N cells."""
    protein = cells.protein[:, 0, : len(network.genes)]
    width = len(str(len(names)))
    columns = {
        "pseudotime": cells.pseudotime[:, 0].double().numpy(),
        "fate": labels.fates(cells.final[:, 0], network).astype(object),
        "cell_type": labels.cell_types(protein, network).astype(object),
        "batch": np.array([f"batch{k + 1}" for k in batch.tolist()], dtype=object),
        "perturbation": np.array(names, dtype=object),
        "is_control": np.array([name == CONTROL for name in names]),
    }
    return pd.DataFrame(columns, index=pd.Index([f"cell{k:0{width}d}" for k in range(1, len(names) + 1)], dtype=object))


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread: many small steps only wait for each other, and no result depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stream(config: LandscapeConfig, name: str) -> torch.Generator:
    """Return the generator of one part of a landscape."""
    return torch.Generator().manual_seed(rng.derive(config.seed, "landscape", name))
