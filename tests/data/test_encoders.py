from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse

from perturbrl import registry
from perturbrl.data.encoders import neighbors
from perturbrl.data.encoders.neighbors import cosine_neighbors, neighbor_edges
from perturbrl.errors import UserError
from perturbrl.rng import derive
from tests.data.made_cells import configs

ENCODERS = ("none", "pca", "random_gat", "gat")
TRAIN = np.setdiff1d(np.arange(40), np.arange(0, 40, 5))
TEST = np.arange(0, 40, 5)
SMALL = {
    "pca": ["encoder.components=5"],
    "random_gat": ["encoder.hidden=4", "encoder.out=6"],
    "gat": ["encoder.hidden=4", "encoder.out=6", "encoder.epochs=3", "encoder.components=4"],
}


def profiles(n=40, g=12, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((n, g)) * (rng.random((n, g)) < np.linspace(0.02, 0.9, g))).astype("f4")


def encode(name, x, train=TRAIN, seed=3, **changed):
    usual = configs("rna", name, *SMALL.get(name, []))[1]
    config = registry.encoders.bind(dataclasses.asdict(usual) | changed)
    return registry.encoders[name].build(config, x, train, seed)


def naive_neighbors(x, reference, queries, k):
    out = []
    for q in queries:

        def similarity(j, q=q):
            norms = np.linalg.norm(x[q]) * np.linalg.norm(x[j])
            return x[q] @ x[j] / norms if norms > 0 else 0.0

        out.append(sorted((j for j in reference if j != q), key=similarity, reverse=True)[:k])
    return np.array(out)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("chunk", [3, 1024])
def test_neighbours_equal_loops_over_pairs(make, chunk, monkeypatch):
    monkeypatch.setattr(neighbors, "CHUNK", chunk)
    x = profiles(g=60).astype(float) + 0.0
    share = (x[TRAIN] > 0).mean(0)
    assert (share > neighbors.DENSE_SHARE).any() and ((share > 0) & (share <= neighbors.DENSE_SHARE)).any()
    for queries in (TRAIN, TEST):
        got = cosine_neighbors(make(x), TRAIN, queries, 4)
        np.testing.assert_array_equal(got, naive_neighbors(x, TRAIN, queries, 4))


def test_scaling_a_cell_does_not_change_its_neighbours():
    x = profiles().astype(float)
    scaled = x * np.random.default_rng(1).uniform(0.1, 10, (40, 1))
    np.testing.assert_array_equal(cosine_neighbors(x, TRAIN, TEST, 3), cosine_neighbors(scaled, TRAIN, TEST, 3))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_a_cell_is_never_its_own_neighbour_though_cells_are_equal_or_empty(make):
    rows = np.arange(10)
    for x in (np.ones((10, 4), "f4"), np.zeros((10, 4), "f4")):
        near = cosine_neighbors(make(x), rows, rows, 9)
        np.testing.assert_array_equal(np.sort(near, axis=1), [np.delete(rows, i) for i in rows])


def test_every_cell_receives_from_k_less_one_training_cells():
    source, target = neighbor_edges(profiles(), TRAIN, 4)
    assert np.isin(source, TRAIN).all() and (source != target).all()
    np.testing.assert_array_equal(np.bincount(target), np.full(40, 3))
    assert neighbor_edges(profiles(), TRAIN, 1).shape == (2, 0)


def naive_attention(layer, x, source, target):
    """Velickovic et al. 2018, eqs. 3 and 4, one cell and one head at a time; each cell also attends to itself."""
    weight, bias = layer.lin.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    to, of = (a.detach().double().numpy()[0] for a in (layer.att_dst, layer.att_src))
    heads, out = to.shape
    h = (x @ weight.T).reshape(len(x), heads, out)
    y = np.zeros_like(h)
    for i in range(len(x)):
        near = [i, *source[target == i]]
        for head in range(heads):
            score = np.array([to[head] @ h[i, head] + of[head] @ h[j, head] for j in near])
            score = np.exp(np.where(score > 0, score, 0.2 * score))
            y[i, head] = (score / score.sum()) @ h[near, head]
    return y.reshape(len(x), -1) + bias


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_random_gat_equals_attention_written_out(make):
    from perturbrl.data.encoders.network import make_network

    x = profiles()
    got, names, leaks = encode("random_gat", make(x), dropout=0.0)
    config = configs("rna", "random_gat", *SMALL["random_gat"])[1]
    net = make_network(12, config, derive(config.weights_seed, "weights"))
    near = naive_neighbors(x.astype(float), TRAIN, np.arange(40), config.k - 1)
    source, target = near.ravel(), np.repeat(np.arange(40), config.k - 1)
    hidden = naive_attention(net.first, x.astype(float), source, target)
    hidden = np.where(hidden > 0, hidden, np.expm1(hidden))
    np.testing.assert_allclose(got, naive_attention(net.second, hidden, source, target), atol=1e-5)
    assert names == tuple(f"gat{i}" for i in range(6)) and leaks == () and got.dtype == np.float32


def test_pca_is_the_singular_value_decomposition_of_the_training_cells():
    x = profiles()
    got, names, _ = encode("pca", x)
    _, _, axes = np.linalg.svd(x[TRAIN] - x[TRAIN].mean(0), full_matrices=False)
    expected = (x - x[TRAIN].mean(0)) @ axes[:5].T
    np.testing.assert_allclose(got * np.sign((got * expected).sum(0)), expected, atol=1e-5)
    np.testing.assert_allclose(np.abs(encode("pca", sparse.csr_matrix(x))[0]), np.abs(got), atol=1e-4)
    assert names == ("pca0", "pca1", "pca2", "pca3", "pca4")


def test_pca_with_as_many_components_as_features_takes_sparse_input_too():
    x = profiles()
    got, full = (encode("pca", make(x), components=12)[0] for make in (sparse.csr_matrix, np.asarray))
    np.testing.assert_allclose(np.abs(got), np.abs(full), atol=1e-4)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_no_encoder_keeps_values_and_names(make):
    values, names, leaks = encode("none", make(profiles()))
    np.testing.assert_array_equal(values, profiles())
    assert names == leaks == ()


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("name", ENCODERS)
def test_training_features_do_not_depend_on_test_cells_by_one_bit(name, make):
    x = profiles()
    other = x.copy()
    other[TEST] = 50 * np.random.default_rng(9).random((len(TEST), 12))
    before, after = (encode(name, make(values))[0] for values in (x, other))
    np.testing.assert_array_equal(before[TRAIN], after[TRAIN])
    assert not np.array_equal(before[TEST], after[TEST])


@pytest.mark.parametrize("name", ["random_gat", "gat"])
def test_one_test_cell_does_not_move_another(name):
    x = profiles()
    other = x.copy()
    other[TEST[0]] *= np.linspace(3, 0, 12)
    np.testing.assert_array_equal(encode(name, x)[0][1:], encode(name, other)[0][1:])


@pytest.mark.parametrize("name", ["random_gat", "gat"])
def test_the_released_graph_over_all_cells_does_mix_them(name):
    x, everyone = profiles(), np.arange(40)
    other = x.copy()
    other[TEST] = 50 * np.random.default_rng(9).random((len(TEST), 12))
    assert not np.array_equal(encode(name, x, everyone)[0][TRAIN], encode(name, other, everyone)[0][TRAIN])


@pytest.mark.parametrize("name", ENCODERS)
def test_same_seed_same_features_and_the_global_generator_is_left_alone(name):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = encode(name, profiles())[0]
    torch.testing.assert_close(torch.get_rng_state(), state)
    torch.manual_seed(6)
    np.testing.assert_array_equal(encode(name, profiles())[0], first)


def test_dropout_is_on_in_the_random_network_and_off_after_training():
    x = profiles()
    assert not np.array_equal(encode("random_gat", x, seed=1)[0], encode("random_gat", x, seed=2)[0])
    same = [encode("random_gat", x, seed=s, dropout=0.0)[0] for s in (1, 2)]
    np.testing.assert_array_equal(*same)
    untrained = [encode("gat", x, seed=s, epochs=0)[0] for s in (1, 2)]
    np.testing.assert_array_equal(*untrained)
    np.testing.assert_array_equal(untrained[0], same[0])


LIVE = {"k": 5, "hidden": 7, "heads": 3, "out": 5, "dropout": 0.6, "weights_seed": 8}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("pca", "components", 4)]
    + [("random_gat", key, value) for key, value in LIVE.items()]
    + [
        ("gat", key, value)
        for key, value in ({**LIVE, "epochs": 4, "optimizer": "padam", "learning_rate": 0.1, "components": 3}).items()
    ],
)
def test_every_key_changes_the_features(name, key, value):
    before, after = encode(name, profiles())[0], encode(name, profiles(), **{key: value})[0]
    assert before.shape != after.shape or not np.allclose(before, after, atol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_tests_above_know_every_key(name):
    tested = {"none": set(), "pca": {"components"}, "random_gat": set(LIVE)}
    tested["gat"] = {*LIVE, "epochs", "optimizer", "learning_rate", "components"}
    assert {f.name for f in dataclasses.fields(registry.encoders[name].schema)} == {"name", *tested[name]}


def test_training_lets_a_linear_map_give_back_the_principal_components():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(120, 3)) @ rng.normal(size=(3, 20))).astype("f4")
    train, test = np.arange(90), np.arange(90, 120)
    scores = encode("pca", x, train, components=3)[0]

    def unexplained(epochs):
        options = {"k": 1, "components": 3, "out": 3, "learning_rate": 0.05, "dropout": 0.0}
        z = np.column_stack([encode("gat", x, train, epochs=epochs, **options)[0], np.ones(120)])
        read_out = np.linalg.lstsq(z[train], scores[train], rcond=None)[0]
        return ((z[test] @ read_out - scores[test]) ** 2).mean() / scores[test].var()

    assert unexplained(60) < 0.4 * unexplained(0)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("pca", {"components": 13}, "encoder.components: 13 components must be 1 to 12 (the 32 training cells have 12"),
        ("pca", {"components": 0}, "encoder.components: must be at least 1, got 0"),
        ("gat", {"components": 33}, "encoder.components: 33 components must be 1 to 12"),
        (
            "random_gat",
            {"k": 33},
            "encoder.k: 33 neighbours, the cell itself included, are asked for among 32 training",
        ),
        ("random_gat", {"k": 0}, "encoder.k: must be at least 1, got 0"),
        ("random_gat", {"out": -1}, "encoder.out: must be at least 1, got -1"),
        ("random_gat", {"dropout": 1.0}, "encoder.dropout: must be at least 0 and below 1, got 1.0"),
        ("gat", {"learning_rate": 0.0}, "encoder.learning_rate: must be above 0, got 0.0"),
        ("gat", {"epochs": -1}, "encoder.epochs: must be at least 0, got -1"),
    ],
)
def test_impossible_encoders_are_refused(name, changed, said):
    with pytest.raises(UserError) as error:
        encode(name, profiles(), **changed)
    assert said in str(error.value)


def test_as_many_neighbours_as_training_cells_is_still_possible():
    assert np.isfinite(encode("random_gat", profiles(), k=32)[0]).all()


def test_many_cells_look_for_neighbours_among_some_of_the_training_cells(monkeypatch):
    monkeypatch.setattr(neighbors, "MOST_REFERENCES", 10)
    with pytest.warns(UserWarning, match="among 10 of the 32 training cells"):
        source, target = neighbor_edges(profiles(), TRAIN, 4)
    near = np.unique(source)
    assert len(near) <= 10 and np.isin(near, TRAIN).all()
    assert len(source) == 40 * 3 and (source != target).all()
    assert (target[: len(TRAIN) * 3] == np.repeat(TRAIN, 3)).all()
