from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from fakes.configs import description_config
from fakes.screens import PAIRS, SINGLES, made_raw, made_screen, made_split

from perturbrl.errors import UserError
from perturbrl.screens.describe import describe, read_prior
from perturbrl.screens.genes import gene_embedding, training_rows
from perturbrl.screens.schema import PerturbationTable

SCREEN = made_screen(made_raw(labels=(*SINGLES, *PAIRS, "dex")))
SPLIT = made_split(SCREEN)


def row(table: PerturbationTable, name: str) -> np.ndarray:
    names = [c.name for c in table.screen.conditions]
    return table.description[names.index(name)]


def test_the_embedding_of_a_target_is_the_row_of_its_gene() -> None:
    table = describe(SCREEN, SPLIT, description_config(kinds=["gene_embedding"], components=4, scale=False))
    scores = gene_embedding(SCREEN, SPLIT, 4)
    np.testing.assert_allclose(row(table, "G3"), [*scores[3], 0.0], rtol=1e-6)
    np.testing.assert_allclose(row(table, "dex"), [0, 0, 0, 0, 1.0])
    np.testing.assert_allclose(row(table, "G3+G4"), [*(scores[3] + scores[4]), 0.0], rtol=1e-5)
    assert not row(table, "control").any() and table.description.dtype == np.float32


@pytest.mark.parametrize("kinds", [["gene_embedding"], ["one_hot"], ["gene_embedding", "one_hot"]])
def test_a_combination_is_the_sum_of_its_members(kinds: list[str]) -> None:
    table = describe(SCREEN, SPLIT, description_config(kinds=kinds))
    for pair in PAIRS:
        a, b = pair.split("+")
        np.testing.assert_allclose(row(table, pair), row(table, a) + row(table, b), rtol=1e-5, atol=1e-6)


def test_one_hot_knows_the_targets_that_trained_and_no_other() -> None:
    table = describe(SCREEN, SPLIT, description_config(kinds=["one_hot"]))
    trained = sorted({t for k in np.unique(SCREEN.condition[SPLIT.train]) for t in SCREEN.conditions[k].targets})
    for k, condition in enumerate(SCREEN.conditions):
        assert table.description[k].tolist() == [float(t in condition.targets) for t in trained]
    assert 0 < len(trained) < len(SINGLES) + 1


def test_signs_of_effects_turn_the_embedding() -> None:
    screen = made_screen(made_raw(labels=("G1_ko", "G1_oe", "G2_ko", "G3_oe")), effects={"_ko": -1.0, "_oe": 1.0})
    split = made_split(screen, "iid_cells")
    table = describe(screen, split, description_config(kinds=["gene_embedding"]))
    np.testing.assert_allclose(row(table, "G1_ko"), -row(table, "G1_oe"))
    assert row(table, "G1_ko").any()


def test_scaled_kinds_have_a_root_mean_square_of_one_over_training_targets() -> None:
    table = describe(SCREEN, SPLIT, description_config(kinds=["gene_embedding"], components=3))
    trained = {t for k in np.unique(SCREEN.condition[SPLIT.train]) for t in SCREEN.conditions[k].targets}
    scores = gene_embedding(SCREEN, SPLIT, 3)
    rows = [scores[SCREEN.features.index(t)] if t in SCREEN.features else np.zeros(3) for t in sorted(trained)]
    size = np.sqrt(np.mean(np.square(rows)))
    np.testing.assert_allclose(row(table, "G0")[:3], scores[0] / size, rtol=1e-5)


def test_doses_are_told_as_logs() -> None:
    screen = made_screen(made_raw(labels=("dexa", "bud"), doses=(1.0, 3.0, 10.0)), dose="amount")
    split = made_split(screen, "unseen_dose")
    table = describe(screen, split, description_config(kinds=["one_hot", "dose"]))
    logs = [np.log1p(c.dose or 0.0) for c in screen.conditions]
    np.testing.assert_allclose(table.description[:, -1], logs, rtol=1e-6)
    np.testing.assert_allclose(table.covariates[:, 0], logs, rtol=1e-6)
    assert table.covariates.shape == (7, 1) and len(set(logs)) == 4


def test_an_unseen_context_has_no_column() -> None:
    screen = made_screen(made_raw(contexts=("K", "T", "U")), context="line")
    split = made_split(screen, "unseen_context", held_out="T")
    table = describe(screen, split, description_config())
    trained = sorted({screen.conditions[k].context for k in screen.condition[training_rows(split)]})
    assert "T" not in trained and table.covariates.shape[1] == len(trained)
    for k, c in enumerate(screen.conditions):
        assert table.covariates[k].tolist() == [float(c.context == t) for t in trained]
    few = describe(screen, made_split(screen, "unseen_context", held_out="T", few_shot=2), description_config())
    assert few.covariates.shape[1] == 3


def test_one_context_needs_no_covariate() -> None:
    table = describe(SCREEN, SPLIT, description_config())
    assert table.covariates.shape == (len(SCREEN.conditions), 0)
    trained = set(SCREEN.condition[training_rows(SPLIT)].tolist())
    assert table.seen.tolist() == [k in trained for k in range(len(SCREEN.conditions))]


def write(file: Path, text: str) -> str:
    data = text.encode()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return str(file)


GMT = "SET1\turl\tG0\tG1\tG2\nSET2\turl\tG2\tG3\n\nSET3\turl\tOTHER\n"
WEIGHTS = "gene,pathway,weight\nG0,SET1,1\nG1,SET1,1\nG2,SET1,1\nG2,SET2,1\nG3,SET2,1\nOTHER,SET3,1\n"


@pytest.mark.parametrize("name", ["sets.gmt", "sets.gmt.gz", "sets.csv", "sets.csv.gz", "sets.tsv"])
def test_scores_of_a_prior_keep_inner_products(tmp_path: Path, name: str) -> None:
    """All components kept, U S has the inner products of the rows of the matrix it came from."""
    text = GMT if "gmt" in name else WEIGHTS.replace(",", "\t") if "tsv" in name else WEIGHTS
    prior = read_prior(write(tmp_path / name, text), 99, {})
    member = {"G0": [1, 0, 0], "G1": [1, 0, 0], "G2": [1, 1, 0], "G3": [0, 1, 0], "OTHER": [0, 0, 1]}
    for a, x in member.items():
        for b, y in member.items():
            np.testing.assert_allclose(prior.of(a) @ prior.of(b), np.dot(x, y), atol=1e-12)
    assert prior.of("nobody") is None and prior.scores.shape == (5, 3)


def test_neighbours_in_a_network_go_both_ways(tmp_path: Path) -> None:
    edges = "tf,confidence,target,mor\nA,A,B,1\nA,B,C,-1\nD,E,C,1\n"
    prior = read_prior(write(tmp_path / "net.csv", edges), 99, {"confidence": ["A", "B"]})
    assert set(prior.rows) == {"A", "B", "C"}
    rows = {"A": [0, 1, -1], "B": [1, 0, 0], "C": [-1, 0, 0]}
    for a in rows:
        for b in rows:
            np.testing.assert_allclose(prior.of(a) @ prior.of(b), np.dot(rows[a], rows[b]), atol=1e-12)


def test_many_sets_take_the_leading_components_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"g{i},s{j},{rng.normal():.6f}" for i in range(600) for j in rng.permutation(520)[:3]]
    file = write(tmp_path / "big.csv", "gene,pathway,weight\n" + "\n".join(lines) + "\n")
    few, more = (read_prior(file, k, {}).scores for k in (4, 520))
    np.testing.assert_allclose(np.abs(few), np.abs(more[:, :4]), atol=1e-8)
    np.testing.assert_array_equal(few, read_prior(file, 4, {}).scores)


def test_a_description_by_a_prior_is_declared(tmp_path: Path) -> None:
    file = write(tmp_path / "sets.gmt", GMT)
    config = description_config(kinds=["prior"], prior=file, prior_components=2, scale=False)
    table = describe(SCREEN, SPLIT, config)
    prior = read_prior(file, 2, {})
    np.testing.assert_allclose(row(table, "G2"), [*prior.of("G2"), 0.0], rtol=1e-6)
    np.testing.assert_allclose(row(table, "G3+G4"), [*prior.of("G3"), 1.0], rtol=1e-6)  # G4 is in no set
    assert table.leaks == (f"descriptions read the prior file {file}, which may know of the test conditions",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kinds": []}, "description.kinds: must not be empty; give at least one, such as [one_hot]"),
        ({"kinds": ["genes"]}, "description.kinds[0]: 'genes' is not known"),
        ({"kinds": ["one_hot", "one_hot"]}, "names a kind twice"),
        ({"components": 0}, "description.components: must be at least 1, got 0"),
        ({"kinds": ["prior"]}, "description.prior: no file"),
        ({"kinds": ["prior"], "prior": "/no/such.gmt"}, "description.prior=/no/such.gmt: no such file"),
    ],
)
def test_bad_settings_are_one_line(changes: dict, said: str) -> None:
    with pytest.raises(UserError) as error:
        describe(SCREEN, SPLIT, description_config(**changes))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "keep", "said"),
    [
        ("a.csv", "x,y\n1,2\n", {}, "needs columns gene and pathway, or tf and target; it has x, y"),
        ("a.csv", "gene,pathway,weight\nG0,S,heavy\n", {}, "cannot be read as a table"),
        ("a.csv", "gene,pathway,weight\nG0,S,inf\n", {}, "a weight is not a finite number"),
        ("a.csv", WEIGHTS, {"level": ["A"]}, "'level' is no column of a.csv"),
        ("a.csv", WEIGHTS, {"pathway": ["X"]}, "nothing is left of it"),
        ("a.gmt", "", {}, "nothing is left of it"),
        ("a.csv", "", {}, "cannot be read as a table"),
        ("a.gmt", "S\tu\tX1\tX2\n", {}, "none of the 9 targets is in"),
    ],
)
def test_a_bad_prior_is_one_line(tmp_path: Path, name: str, text: str, keep: dict, said: str) -> None:
    config = description_config(kinds=["prior"], prior=write(tmp_path / name, text), prior_keep=keep)
    with pytest.raises(UserError) as error:
        describe(SCREEN, SPLIT, config)
    assert said in str(error.value) and "\n" not in str(error.value)
