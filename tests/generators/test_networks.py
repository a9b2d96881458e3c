"""The velocity networks: shapes, what starts at zero, which genes a token sees."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from perturbrl.errors import UserError
from perturbrl.generators.layout import Layout, Part, linear
from perturbrl.generators.settings import NetworkConfig
from perturbrl.generators.transformer import Transformer, coexpressed
from perturbrl.generators.velocity import MLP, Velocity

RUNS, CELLS, GENES, KNOWN = 2, 5, 6, 3
SMALL = NetworkConfig("mlp", 8, 2, 4, "film", 2, 2)


def drawn(network: Velocity, runs: int = RUNS) -> Tensor:
    """Parameters that are nowhere zero."""
    return torch.randn(runs, network.layout.size, generator=torch.Generator().manual_seed(1)) / 2


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = (RUNS, CELLS, GENES), (RUNS, CELLS), (RUNS, CELLS, GENES), (RUNS, CELLS, KNOWN)
    x, t, control, known = (torch.randn(*shape, generator=g) for shape in shapes)
    return x, t.sigmoid(), control, known


def networks() -> list[Velocity]:
    adaln = dataclasses.replace(SMALL, conditioning="adaln")
    mask = torch.ones(GENES, GENES, dtype=torch.bool)
    return [MLP(SMALL, GENES, KNOWN), MLP(adaln, GENES, KNOWN), Transformer(SMALL, mask, KNOWN)]


@pytest.mark.parametrize("network", networks(), ids=["film", "adaln", "transformer"])
def test_runs_and_cells_are_independent_and_every_input_matters(network: Velocity) -> None:
    theta, given = drawn(network), inputs()
    out = network(theta, *given)
    assert out.shape == (RUNS, CELLS, GENES)
    torch.testing.assert_close(network(theta[1:], *(x[1:] for x in given)), out[1:])
    torch.testing.assert_close(network(theta, *(x[:, 2:3] for x in given)), out[:, 2:3])
    for k in range(4):
        changed = [x + 0.5 if j == k else x for j, x in enumerate(given)]
        assert not torch.allclose(network(theta, *changed), out, atol=1e-4), k


@pytest.mark.parametrize("network", networks(), ids=["film", "adaln", "transformer"])
def test_the_first_velocity_is_zero(network: Velocity) -> None:
    theta = torch.zeros(1, network.layout.size)
    network.layout.initialise(theta[0], torch.Generator().manual_seed(0))
    assert network(theta, *(x[:1] for x in inputs())).abs().max() == 0


def test_the_default_network_has_about_a_million_parameters_at_300_genes() -> None:
    assert 0.8e6 < MLP(NetworkConfig("mlp", 320, 3, 64, "film", 4, 30), 300, 23).layout.size < 1.3e6


def test_a_token_sees_the_genes_of_its_mask_alone() -> None:
    mask = torch.eye(GENES, dtype=torch.bool)
    mask[0, 3] = True
    network = Transformer(SMALL, mask, KNOWN)
    x, t, control, known = inputs()
    before = network(drawn(network), x, t, control, known)
    x[..., 3] += 1.0
    moved = (network(drawn(network), x, t, control, known) - before).abs().amax((0, 1))
    assert (moved > 1e-4).tolist() == [True, False, False, True, False, False]


def test_coexpressed_genes_are_those_of_highest_correlation() -> None:
    cells = torch.randn(200, GENES, generator=torch.Generator().manual_seed(2))
    cells[:, 4] = -cells[:, 1] + 0.1 * cells[:, 4]
    correlation = torch.corrcoef(cells.T).abs()
    mask = coexpressed(cells, 1)
    assert mask[1, 4] and mask[4, 1] and mask.sum(1).tolist() == [2] * GENES and mask.diagonal().all()
    for g in range(GENES):
        others = correlation[g].clone()
        others[g] = 0
        assert mask[g, others.argmax()]
    assert coexpressed(cells, 100).all()


def test_parts_of_a_row_are_drawn_within_their_bounds() -> None:
    layout = Layout(linear("a", 4, 3) | {"b": Part((2, 5))} | linear("c", 9, 2))
    theta = torch.full((2, layout.size), torch.nan)
    for k, row in enumerate(theta):
        layout.initialise(row, torch.Generator().manual_seed(k))
    w = layout.views(theta)
    assert {name: tuple(x.shape) for name, x in w.items()} == {
        **{"a.weight": (2, 4, 3), "a.bias": (2, 1, 3), "b": (2, 2, 5), "c.weight": (2, 9, 2), "c.bias": (2, 1, 2)}
    }
    assert 0.3 < w["a.weight"].abs().max() <= 0.5 and w["c.weight"].abs().max() <= 1 / 3 and w["b"].abs().max() == 0
    assert not torch.equal(w["a.weight"][0], w["a.weight"][1])
    w["b"][1, 0, 4] = 7.0
    assert (theta == 7).sum() == 1  # they are views


def test_heads_that_do_not_divide_a_token_are_refused() -> None:
    with pytest.raises(UserError, match=r"^agent\.network\.heads: 3 does not divide hidden = 8$"):
        dataclasses.replace(SMALL, kind="transformer", heads=3).check("agent.network")
