from __future__ import annotations

import numpy as np
import pytest
from fakes.configs import composed, conditions_config, data_config
from fakes.screens import made_split
from omegaconf import OmegaConf

from perturbrl.config import bind
from perturbrl.errors import UserError
from perturbrl.landscape import LandscapeConfig, build, fresh_cells
from perturbrl.landscape.networks import load
from perturbrl.landscape.perturb import double_perturbations, single_perturbations
from perturbrl.landscape.truth import true_means
from perturbrl.screens.genes import select
from perturbrl.screens.load import load_screen

CONDITIONS = conditions_config("landscape")


def landscape(**changes) -> LandscapeConfig:
    small = {"n_cells": 1200, "n_target_genes": 40, "n_peaks": 20, "n_proteins": 8, "perturbations": "single"}
    node = OmegaConf.to_container(composed("+source=landscape").source)
    return bind(LandscapeConfig, node | small | changes, "source")


def test_doubles_are_all_pairs_of_two_genes() -> None:
    network = load("myeloid")
    names = double_perturbations(network)
    singles = single_perturbations(network)
    assert names[: len(singles)] == singles and len(names) == len(set(names)) == 1 + 22 + 220
    for name in names[len(singles) :]:
        a, b = name.split("+")
        assert {a, b} <= set(singles) and a < b and a.split("_")[0] != b.split("_")[0]


def test_a_tenth_of_a_landscape_of_doubles_is_control() -> None:
    raw = build(landscape(perturbations="double", n_cells=1000))
    counts = raw.obs["perturbation"].value_counts()
    assert len(counts) == 243 and raw.n_cells == 1000
    assert counts["control"] == 1000 - 242 * 3 >= 100 and set(counts.drop("control")) == {3}
    assert raw.obs["is_control"].sum() == counts["control"]
    with pytest.raises(UserError, match="must be at least 486 for source.perturbations=double, got 300"):
        build(landscape(perturbations="double", n_cells=300))


def test_conditions_of_the_landscape_are_read_with_their_genes() -> None:
    screen = load_screen(build(landscape()), data_config(), CONDITIONS)
    assert len(screen.conditions) == 23 and screen.batches == ("batch1", "batch2")
    assert screen.gene_of("Gata1_ko") == "Gata1" and screen.sign_of("Gata1_ko") == -1.0
    assert len(screen.panel_columns) == 11 and screen.notes == ()


def test_fresh_cells_have_the_means_of_the_landscape() -> None:
    """Mean of z = (screen - truth) / standard error over genes and conditions: near N(0, 1), batches included."""
    config = landscape(n_cells=2300, batch_effect=0.6)
    screen = load_screen(build(config), data_config(), CONDITIONS)
    rows = np.arange(len(screen.condition))
    means = true_means(config, screen, data_config(), CONDITIONS, 400)
    z, other = [], []
    for k in range(len(screen.conditions)):
        own = screen.x[rows[screen.condition == k]].toarray().astype(np.float64)
        error = own.std(axis=0, ddof=1) * np.sqrt(1 / len(own) + 1 / 400)
        z.append((own.mean(axis=0) - means[k]) / np.where(error > 0, error, np.inf))
        other.append((own.mean(axis=0) - means[k - 1]) / np.where(error > 0, error, np.inf))
    size, mean = np.sqrt(np.mean(np.square(z))), np.mean(z)
    assert size < 1.2 and abs(mean) < 0.2
    assert np.sqrt(np.mean(np.square(other))) > 2 * size  # the means of another condition would not do


def test_truth_is_the_same_for_the_same_seed_and_narrows_with_cells() -> None:
    config = landscape()
    a, b, c = (fresh_cells(config, 30, seed) for seed in (0, 0, 1))
    x = [r.modalities["rna"].x.toarray() for r in (a, b, c)]
    np.testing.assert_array_equal(x[0], x[1])
    assert not np.array_equal(x[0], x[2]) and a.checksum == b.checksum != c.checksum
    assert set(a.obs["perturbation"].value_counts()) == {30}
    assert not np.array_equal(x[0][:30], build(config).modalities["rna"].x.toarray()[:30])
    with pytest.raises(UserError, match="n_cells: 0 must be positive"):
        fresh_cells(config, 0)


def test_truth_comes_in_the_conditions_and_features_of_the_screen() -> None:
    config = landscape()
    screen = load_screen(build(config), data_config(), CONDITIONS)
    whole = true_means(config, screen, data_config(), CONDITIONS, 30)
    chosen = select(screen, made_split(screen, "unseen_single"), data_config(n_features={"rna": 20}))
    part = true_means(config, chosen, data_config(), CONDITIONS, 30)
    columns = [screen.features.index(f) for f in chosen.features]
    np.testing.assert_array_equal(part, whole[:, columns])
    with pytest.raises(UserError, match="names are not of this landscape"):
        true_means(landscape(n_target_genes=30), screen, data_config(), CONDITIONS, 5)


def test_fresh_cells_of_a_generated_network_have_its_means() -> None:
    config = landscape(network="random", n_regulators=10, n_cells=2100)
    screen = load_screen(build(config), data_config(), CONDITIONS)
    assert len(screen.conditions) == 21 and len(screen.panel_columns) == 10
    rows = np.arange(len(screen.condition))
    means = true_means(config, screen, data_config(), CONDITIONS, 100)
    measured = np.stack([np.asarray(screen.x[rows[screen.condition == k]].mean(axis=0))[0] for k in range(21)])
    gap = np.square(measured[:, None] - means[None]).mean(axis=2)
    assert np.mean(gap.argmin(axis=1) == np.arange(21)) > 0.5  # perturbations of genes that are off anyway look alike
    assert gap.diagonal().mean() < 0.3 * gap[~np.eye(21, dtype=bool)].mean()
