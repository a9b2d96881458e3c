"""BEELINE's simulation of gonadal sex determination beside our own two simulations of the same network.

BEELINE's cells (Pratapa et al. 2020) come from BoolODE: mRNA and protein with Hill kinetics, from the urogenital ridge.
Ours are the asynchronous Boolean network and the Hill-kinetics SDE of ``perturbrl.landscape``. Compared are the share
of cells that take each way, which genes are on in its last cells, and the correlation of genes over all cells of the
way and over its last cells. BEELINE's cells are not part of the project; ``--data`` names their folder.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from network_inference import gsd_cells
from numpy.typing import NDArray

from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.infer.trajectory import two_means
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load
from perturbrl.landscape.simulate import simulate

LAST = 0.1  # the share of a branch's cells, last in pseudotime, that counts as its end
SURE = 0.5  # an on-share further than this from another's counts as a gene that disagrees
WAYS = {"testis": True, "ovary": False}  # SOX9 on at the end, or off


@dataclass(frozen=True)
class Cells:
    """Cells on their way and at their ends: ``seen`` and ``ends`` [N, G], ``male`` and ``male_end`` [N]."""

    name: str
    seen: NDArray[np.float64]
    ends: NDArray[np.float64]
    male: NDArray[np.bool_]
    male_end: NDArray[np.bool_]
    level: NDArray[np.float64]  # [G], above which a gene is on


def beeline(folder: Path, network: Network) -> Cells:
    """Return BEELINE's cells, genes in the order of the network's, a branch being male if SOX9 is on at its end."""
    cells = gsd_cells(folder)
    values = cells.values[:, [cells.genes.index(gene) for gene in network.genes]]
    level = np.array([two_means(column) for column in values.T])
    sox9 = network.genes.index("SOX9")
    seen, ends, male, male_end = [], [], [], []
    for times in cells.pseudotime.T:
        rows = np.flatnonzero(np.isfinite(times))
        rows = rows[np.argsort(times[rows])]
        last = rows[-max(int(LAST * len(rows)), 1) :]
        is_male = bool(np.median(values[last, sox9]) > level[sox9])
        seen.append(values[rows])
        ends.append(values[last])
        male += [is_male] * len(rows)
        male_end += [is_male] * len(last)
    return Cells("BEELINE", np.concatenate(seen), np.concatenate(ends), np.array(male), np.array(male_end), level)


def boolean(network: Network, n_cells: int) -> Cells:
    """Return cells of the asynchronous network: each seen after a random number of updates, and after very many."""
    generator = torch.Generator().manual_seed(0)
    dynamics = BooleanDynamics(network)
    key = draw_keys(n_cells, generator)
    start = torch.tensor([gene in network.start for gene in network.genes], dtype=torch.uint8).expand(n_cells, -1)
    n_updates = 20 * len(network.genes)
    moment = torch.randint(n_updates, (n_cells,), generator=generator)
    state, seen = start.clone(), torch.empty_like(start).clone()
    for t in range(n_updates):
        seen[moment == t] = state[moment == t]
        state = dynamics.run(state, 1, key, first=t)
    ends = dynamics.run(state, 80 * len(network.genes), key, first=n_updates).numpy().astype(float)
    male = ends[:, network.genes.index("SOX9")] > 0.5
    return Cells("Boolean", seen.numpy().astype(float), ends, male, male, np.full(ends.shape[1], 0.5))


def hill(network: Network, n_cells: int, noise: float) -> Cells:
    """Return cells of the SDE: mRNA when each was seen, protein at the end."""
    generator = torch.Generator().manual_seed(0)
    clamps = torch.full((1, len(network.genes)), torch.nan)
    paths = simulate(network, clamps, n_cells, generator, noise=noise)
    seen, ends = paths.mrna[0].numpy().astype(float), paths.final[0].numpy().astype(float)
    male = ends[:, network.genes.index("SOX9")] > 0.5
    return Cells(f"Hill SDE, noise {noise:g}", seen, ends, male, male, np.full(ends.shape[1], 0.5))


def correlations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Pearson's correlation of every two of the columns, NaN where one is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.corrcoef(values.T)[np.triu_indices(values.shape[1], 1)])


def agreement(a: NDArray[np.float64], b: NDArray[np.float64]) -> str:
    both = np.isfinite(a) & np.isfinite(b)
    return f"{np.corrcoef(a[both], b[both])[0, 1]:.2f} ({both.sum()} pairs)"


def compare(reference: Cells, ours: Cells, genes: tuple[str, ...]) -> list[str]:
    """Return the lines on how ``ours`` agrees with ``reference``."""
    lines = [f"{ours.name}: testis {ours.male.mean():.2f} of cells ({reference.name}: {reference.male.mean():.2f})"]
    for way, is_male in WAYS.items():
        if not (ours.male_end == is_male).any():
            lines.append(f"  {way}: no cell of ours goes there")
            continue
        shares = [(c.ends[c.male_end == is_male] > c.level).mean(axis=0) for c in (reference, ours)]
        apart = np.abs(shares[0] - shares[1])
        odd = ", ".join(f"{g} {a:.2f}/{b:.2f}" for g, a, b in zip(genes, *shares, strict=True) if abs(a - b) > SURE)
        lines.append(f"  {way}, at the end: mean difference of on-shares {apart.mean():.3f}; apart: {odd or 'none'}")
    pairs = [(correlations(c.seen), correlations(c.ends)) for c in (reference, ours)]
    lines.append(f"  correlation of gene-gene correlations: all cells {agreement(pairs[0][0], pairs[1][0])}")
    return [*lines, f"    last cells {agreement(pairs[0][1], pairs[1][1])}"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=os.environ.get("PERTURBRL_REAL_DATA", "../shared/data"))
    options.add_argument("--cells", type=int, default=4000)
    given = options.parse_args()
    network = load("gonadal")
    reference = beeline(Path(given.data), network)
    for ours in (boolean(network, given.cells), *(hill(network, given.cells, noise) for noise in (0.05, 0.15, 0.3))):
        print("\n".join(compare(reference, ours, network.genes)))


if __name__ == "__main__":
    main()
