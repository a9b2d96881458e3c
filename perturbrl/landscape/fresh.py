"""Fresh cells of every condition of a landscape, as many as one likes: what its measured means are estimates of.

Letters: P conditions, N cells, Q features of a modality.
"""

from __future__ import annotations

from collections import Counter

import torch

from perturbrl import rng
from perturbrl.data.schema import Modality, RawCells
from perturbrl.landscape import dataset, modalities
from perturbrl.landscape.config import LandscapeConfig
from perturbrl.landscape.simulate import simulate


def simulate_fresh(config: LandscapeConfig, n_cells: int, seed: int, checksum: str) -> RawCells:
    """Return ``n_cells`` new cells of each condition, by condition; obs as that of the landscape.

    Wiring, assays, depth and the shifts of its batches are the landscape's; batches take turns.
    """
    with dataset.one_thread():
        made = dataset.design(config)
        kinds = dataset.kinds(config, made.network)
        names = [name for name in kinds for _ in range(n_cells)]
        done = dataset.courses(config, made.network, names)
        draws = torch.Generator().manual_seed(rng.derive(config.seed, "landscape", "fresh", seed))
        start = dataset.starts(config, made.network, len(names), draws)
        cells = simulate(made.network, done, 1, draws, noise=config.noise, targets=made.targets, start=start)
        batch = torch.arange(len(names)) % (int(made.batch.max()) + 1)
        share = _shares(made.names, kinds)
        genes = dataset.gene_names(made.network, config.n_target_genes)
        measured: dict[str, Modality] = {}
        for key, signal in dataset.signals(config, cells, made.assays).items():
            totals = signal.expected.sum(dim=1).reshape(len(kinds), n_cells).mean(dim=1)
            rate = signal.expected * (signal.depth / float((totals * share).sum()))
            rate *= modalities.cell_sizes(len(names), draws) * _shifts(config, key, made, rate.shape[1])[batch]
            measured[key] = dataset.as_modality(
                key, modalities.observe(rate, signal.dropout, draws), made.assays[key], genes
            )
        obs = dataset.describe_cells(cells, made.network, names, batch)
        return RawCells("landscape", measured, obs, checksum)


def _shares(names: list[str], kinds: tuple[str, ...]) -> torch.Tensor:
    """Return the share of each condition among the landscape's own cells, [P]: their mean signal sets the depth."""
    counts = Counter(names)
    return torch.tensor([counts[kind] / len(names) for kind in kinds])


def _shifts(config: LandscapeConfig, key: str, made: dataset.Design, n_features: int) -> torch.Tensor:
    """Return the factors of the landscape's batches: its stream draws the depths of its cells first."""
    draws = dataset.stream(config, key)
    modalities.cell_sizes(len(made.names), draws)
    return modalities.batch_shifts(made.batch, n_features, config.batch_effect, draws)
