"""The graph attention network of the paper's features. Imported only by encoders that use it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATConv

from perturbrl.data.preprocess.steps import Array
from perturbrl.optim import by_name


class GraphAttention(nn.Module):
    """Two graph attention layers (Velickovic et al. 2018): G -> heads x hidden (ELU) -> out, one head in the second.

    ``dropout`` acts on attention weights. ``x`` is [N, G] float32, dense or CSR; ``edges`` [2, E]; output [N, out].
    """

    def __init__(self, n_features: int, hidden: int, heads: int, out: int, dropout: float) -> None:
        super().__init__()
        self.first = GATConv(n_features, hidden, heads=heads, dropout=dropout)
        self.second = GATConv(hidden * heads, out, heads=1, dropout=dropout)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Embed every cell."""
        embedded: Tensor = self.second(functional.elu(self.first(x, edges)), edges)
        return embedded


def make_network(n_features: int, config: Any, seed: int) -> GraphAttention:
    """Draw the weights from ``seed``, leaving torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GraphAttention(n_features, config.hidden, config.heads, config.out, config.dropout)


def embed(network: GraphAttention, x: Tensor, edges: Tensor, seed: int) -> NDArray[np.float32]:
    """Run the network as it stands (dropout acts in train mode, drawn from ``seed``); [N, out]."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        return np.asarray(network(x, edges).numpy(), dtype=np.float32)


def train_network(
    network: GraphAttention, x: Tensor, edges: Tensor, target: Tensor, config: Any, seed: int
) -> list[float]:
    """Fit the network and a linear read-out of ``target`` [N, C] by full-batch steps on the mean squared error.

    ``config`` has ``epochs``, ``optimizer`` and ``learning_rate``. Returns the loss of each epoch. Weights of the
    read-out and dropout are drawn from ``seed``.
    """
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        read_out = nn.Linear(network.second.out_channels, target.shape[1])
        parameters = [*network.parameters(), *read_out.parameters()]
        optimiser = by_name(config.optimizer, parameters, config.learning_rate)
        network.train()
        for _ in range(config.epochs):
            optimiser.zero_grad()
            loss = functional.mse_loss(read_out(network(x, edges)), target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
    network.eval()
    return losses


def to_tensor(x: Array) -> Tensor:
    """Return ``x`` [N, G] as a float32 tensor; CSR stays CSR."""
    if not sparse.issparse(x):
        return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Ss]parse.*", category=UserWarning)
        pointers, columns = torch.from_numpy(x.indptr), torch.from_numpy(x.indices)
        return torch.sparse_csr_tensor(pointers, columns, torch.from_numpy(x.data.astype(np.float32)), size=x.shape)
