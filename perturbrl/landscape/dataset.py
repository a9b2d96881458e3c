"""From settings to a data set: wire the genes, simulate, measure, and put a name on everything.

Letters: N cells, G regulators, M target genes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from perturbrl import rng
from perturbrl.data.schema import Modality, RawCells
from perturbrl.landscape import labels, modalities, perturb
from perturbrl.landscape.modalities import Assay
from perturbrl.landscape.network import Network, krumsiek11
from perturbrl.landscape.simulate import Trajectories, simulate
from perturbrl.landscape.source import LandscapeConfig


def simulate_cells(config: LandscapeConfig, checksum: str) -> RawCells:
    """Return N simulated cells with RNA, ATAC and protein counts.

    ``obs`` has pseudotime (float in [0, 1]), fate (where the cell's trajectory ends, ``undecided`` where in none),
    cell_type (what it is when seen), batch, perturbation (``control``, ``Gata1_ko``, ``Gata1_oe``, ...) and is_control.
    """
    with _one_thread():
        return _simulate_cells(config, checksum)


def _simulate_cells(config: LandscapeConfig, checksum: str) -> RawCells:
    network = krumsiek11()
    names = _conditions(config, network)
    clamps = {name: perturb.clamp(network, name, config.overexpression) for name in dict.fromkeys(names)}
    wiring = _stream(config, "wiring")
    targets = modalities.wire_targets(len(network.genes), config.n_target_genes, wiring)
    assays = _assays(config, len(network.genes), wiring)
    held = torch.stack([clamps[name] for name in names])
    cells = simulate(network, held, 1, _stream(config, "dynamics"), noise=config.noise, targets=targets)
    batch = torch.randint(config.n_batches, (len(names),), generator=_stream(config, "batch"))
    obs = _obs(cells, network, names, batch)
    return RawCells("landscape", _measure(config, cells, assays, batch, network), obs, checksum)


def gene_names(network: Network, n_targets: int) -> list[str]:
    """Return the names of the G regulators and of the M target genes."""
    width = len(str(n_targets))
    return [*network.genes, *(f"target{k:0{width}d}" for k in range(1, n_targets + 1))]


def _conditions(config: LandscapeConfig, network: Network) -> list[str]:
    """Return the perturbation of each of N cells: equal shares (control takes the rest), in random order."""
    kinds = perturb.single_perturbations(network) if config.perturbations == "single" else (perturb.CONTROL,)
    shares = np.full(len(kinds), config.n_cells // len(kinds))
    shares[0] += config.n_cells - shares.sum()
    names = np.repeat(kinds, shares)
    return [str(name) for name in rng.numpy_generator(config.seed, "landscape", "conditions").permutation(names)]


def _assays(config: LandscapeConfig, n_regulators: int, generator: torch.Generator) -> dict[str, Assay]:
    n_genes = n_regulators + config.n_target_genes
    return {
        "rna": modalities.all_genes(n_genes, generator),
        "atac": modalities.peaks(config.n_peaks, n_genes, generator),
        "protein": modalities.surface_proteins(config.n_proteins, n_regulators, config.n_target_genes, generator),
    }


def _measure(
    config: LandscapeConfig, cells: Trajectories, assays: dict[str, Assay], batch: torch.Tensor, network: Network
) -> dict[str, Modality]:
    levels = {"rna": cells.mrna, "atac": cells.accessibility, "protein": cells.protein}
    depths = {"rna": config.rna_depth, "atac": config.atac_depth, "protein": config.protein_depth}
    genes = gene_names(network, config.n_target_genes)
    measured = {}
    for key, assay in assays.items():
        # Surface proteins are read with antibodies: the losses of sequencing single molecules are not theirs.
        dropout = 0.0 if key == "protein" else config.dropout
        signal = modalities.expected(levels[key].squeeze(1), assay)
        stream = _stream(config, key)
        counts = modalities.counts(signal, depths[key], dropout, batch, config.batch_effect, stream).numpy()
        x = counts if key == "protein" else sparse.csr_matrix(counts)
        measured[key] = Modality(x, _feature_names(key, assay.gene.tolist(), genes), "counts")
    return measured


def _feature_names(key: str, gene: Sequence[int], genes: Sequence[str]) -> NDArray[np.str_]:
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


def _obs(cells: Trajectories, network: Network, names: list[str], batch: torch.Tensor) -> pd.DataFrame:
    protein = cells.protein[:, 0, : len(network.genes)]
    width = len(str(len(names)))
    columns = {
        "pseudotime": cells.pseudotime[:, 0].double().numpy(),
        "fate": labels.fates(cells.final[:, 0], network).astype(object),
        "cell_type": labels.cell_types(protein, network).astype(object),
        "batch": np.array([f"batch{k + 1}" for k in batch.tolist()], dtype=object),
        "perturbation": np.array(names, dtype=object),
        "is_control": np.array([name == perturb.CONTROL for name in names]),
    }
    return pd.DataFrame(columns, index=pd.Index([f"cell{k:0{width}d}" for k in range(1, len(names) + 1)], dtype=object))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hold torch to one thread: many small steps only wait for each other, and no result depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stream(config: LandscapeConfig, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(rng.derive(config.seed, "landscape", name))
