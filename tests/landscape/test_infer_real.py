"""Inference on data whose network is known: better than a random order, in minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("z3")

pytestmark = [pytest.mark.slow, pytest.mark.real_data]


@pytest.fixture
def benches(root: Path, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")


@pytest.mark.parametrize("part", ["paul15", "gsd"])
def test_edges_of_rules_are_true_more_often_than_by_chance(benches, real_data, part):
    import network_inference

    for case in getattr(network_inference, part)(real_data):
        by_method = {row.method: row for row in network_inference.rows_of(case)}
        rules, random = by_method["rules, form=and"], by_method["random"]
        assert rules.precision > 1.5 * random.precision
        assert rules.signed_precision > 2 * random.signed_precision
        assert rules.average_precision > 1.2 * random.average_precision
        assert rules.seconds < 180


def test_the_myeloid_network_of_real_cells_keeps_both_ends_steady(benches, real_data):
    from network_inference import ARMS, KRUMSIEK

    from perturbrl.landscape.infer import infer_network, settings
    from perturbrl.landscape.infer.cells import read_trajectory

    config = settings()
    file = real_data / "traj_paul15" / "paul15.h5ad"
    result = infer_network(read_trajectory(file, [*KRUMSIEK], ARMS, config), config)
    assert result.steady_ends == 2
    assert set(result.network.fates) == {"Erythrocyte", "Neutrophils"}
    signs = {(e.regulator, e.target): e.sign for e in result.edges}
    assert signs["Gata1", "Sfpi1"] == signs["Sfpi1", "Gata1"] == -1 and signs["Gata1", "Klf1"] == 1


def test_our_simulations_of_gonadal_sex_agree_with_beelines(benches, real_data):
    import gonadal_simulations as gonadal
    import numpy as np

    network = gonadal.load("gonadal")
    reference = gonadal.beeline(real_data, network)
    for ours in (gonadal.boolean(network, 2000), gonadal.hill(network, 2000, 0.15)):
        for is_male in (True, False):
            shares = [(c.ends[c.male_end == is_male] > c.level).mean(axis=0) for c in (reference, ours)]
            assert np.abs(shares[0] - shares[1]).max() < 0.5
        pairs = [gonadal.correlations(c.seen) for c in (reference, ours)]
        assert np.corrcoef(*pairs)[0, 1] > 0.9
