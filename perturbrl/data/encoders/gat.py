"""Encoders that pass each cell's values over a graph of similar cells. Letters: N cells, G features, K = ``out``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from perturbrl.bounds import NonNegativeInt, Number, OneOf, PositiveFloat, PositiveInt, Seed
from perturbrl.config import require
from perturbrl.data.encoders.neighbors import neighbor_edges
from perturbrl.data.encoders.pca import Encoded, principal_components
from perturbrl.data.preprocess.steps import Array, Standardize
from perturbrl.memory import require_memory
from perturbrl.optim.settings import NAMES
from perturbrl.registry import encoders
from perturbrl.rng import derive

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class RandomGatConfig:
    """An untrained network on a cosine neighbour graph."""

    name: str
    k: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    out: PositiveInt
    dropout: Annotated[float, Number(least=0, below=1)]
    weights_seed: Seed


@dataclass(frozen=True)
class GatConfig:
    """The same network, trained."""

    name: str
    k: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    out: PositiveInt
    dropout: Annotated[float, Number(least=0, below=1)]
    weights_seed: Seed
    epochs: NonNegativeInt
    optimizer: Annotated[str, OneOf(*NAMES)]
    learning_rate: PositiveFloat
    components: PositiveInt


@encoders.register("random_gat", RandomGatConfig)
def random_gat(config: RandomGatConfig, x: Array, train: Rows, seed: int) -> Encoded:
    """Return the embedding [N, K] by random, untrained weights with dropout left on, as the study released it.

    Each cell attends to itself and to its k - 1 nearest training cells by cosine similarity; with all cells as
    ``train`` this is the released graph. Weights are drawn from ``config.weights_seed``, dropout from ``seed``.

    Raises
    ------
    UserError
        Fewer than k training cells.
    """
    from perturbrl.data.encoders import network

    edges = _edges(config, x, train)
    net = network.make_network(x.shape[1], config, derive(config.weights_seed, "weights"))
    return network.embed(net.train(), network.to_tensor(x), edges, seed), _names(config), ()


@encoders.register("gat", GatConfig)
def gat(config: GatConfig, x: Array, train: Rows, seed: int) -> Encoded:
    """Return the embedding [N, K] by the network of ``random_gat`` after self-supervised training on ``train``.

    The objective: from the embedding, a linear read-out must give the cell's standardised scores on the first
    ``components`` principal components (mean squared error). Dropout acts while training and is off for the embedding.

    Raises
    ------
    UserError
        As ``random_gat``, or more components than training cells or features.
    """
    import torch

    from perturbrl.data.encoders import network

    scores = principal_components(x[train], np.arange(len(train)), config.components, seed, "encoder.components")
    target = torch.from_numpy(Standardize.fit(scores).apply(scores))
    edges = _edges(config, x, train)
    # Rows of x become rows of x[train]; edges into training cells come first and stay among training cells.
    within = torch.from_numpy(np.searchsorted(train, edges[:, : len(train) * (config.k - 1)].numpy()))
    net = network.make_network(x.shape[1], config, derive(config.weights_seed, "weights"))
    network.train_network(net, network.to_tensor(x[train]), within, target, config, seed)
    return network.embed(net.eval(), network.to_tensor(x), edges, seed), _names(config), ()


def _edges(config: RandomGatConfig | GatConfig, x: Array, train: Rows) -> Any:
    import torch

    require(
        config.k <= len(train),
        "encoder.k",
        f"{config.k} neighbours, the cell itself included, are asked for among {len(train)} training cells; lower it",
    )
    # weights with their gradients and moments; values and attention of every cell, and of the edges that reach it
    sizes, cells, width = (x.shape[1], config.out), x.shape[0], config.heads * config.hidden
    numbers = 4.0 * width * sum(sizes) + (1.0 + config.k) * cells * (width + config.out)
    settings = f"encoder.heads={config.heads}, hidden={config.hidden}, out={config.out}"
    require_memory(4 * numbers, settings, "choose smaller ones")
    return torch.from_numpy(neighbor_edges(x, train, config.k))


def _names(config: RandomGatConfig | GatConfig) -> tuple[str, ...]:
    return tuple(f"gat{i}" for i in range(config.out))
