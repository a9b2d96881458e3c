"""Networks inferred from cells that were simulated from a network."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.infer import Trajectory, infer_network, settings
from perturbrl.landscape.infer.executed import end_shares
from perturbrl.landscape.infer.write import write
from perturbrl.landscape.network import Network, evaluate
from perturbrl.landscape.networks import load

pytest.importorskip("z3")

CASCADE = {"A": "True", "B": "A", "C": "B", "D": "C"}
TOGGLE = {"X": "not Y", "Y": "not X"}
# After P the way divides: Q and then S, or R and then T.
FORK = {"P": "True", "Q": "P and not R", "R": "P and not Q", "S": "Q", "T": "R"}


def runs(
    rules: dict[str, str], n_cells: int, n_updates: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Moment and state [N, 1 + G] of independent asynchronous runs from all off, and the end [N, G] of each."""
    genes, seen, ended = [*rules], [], []
    for _ in range(n_cells):
        state, moment, t = dict.fromkeys(genes, False), int(rng.integers(n_updates)), 0
        while t <= moment or any(state[gene] != bool(evaluate(rule, state)) for gene, rule in rules.items()):
            if t == moment:
                seen.append([t, *state.values()])
            gene = genes[rng.integers(len(genes))]
            state[gene] = bool(evaluate(rules[gene], state))
            t += 1
        ended.append([*state.values()])
    return np.array(seen, dtype=float), np.array(ended)


def cells(rules: dict[str, str], n_cells: int, n_updates: int, seed: int, noise: float = 0.1) -> Trajectory:
    """A branch for each end; expression with noise; the update is the pseudotime."""
    rng = np.random.default_rng(seed)
    seen, ended = runs(rules, n_cells, n_updates, rng)
    ends, which = np.unique(ended, axis=0, return_inverse=True)
    values = seen[:, 1:] + noise * rng.standard_normal((n_cells, len(rules)))
    times = np.where(which.reshape(-1, 1) == np.arange(len(ends)), seen[:, :1] + rng.random((n_cells, 1)), np.nan)
    labels = np.array(["".join("01"[int(x)] for x in end) for end in ended])
    return Trajectory("cells", tuple(rules), values, times, tuple(f"branch {k}" for k in range(len(ends))), labels)


def test_the_rules_of_a_cascade_come_back_exactly():
    result = infer_network(cells(CASCADE, 1500, 40, seed=0), settings())
    assert dict(result.network.rules) == CASCADE
    assert [tuple(s.astype(int)) for s in result.branches[0].states] == [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (1, 1, 0, 0),
        (1, 1, 1, 0),
        (1, 1, 1, 1),
    ]
    assert result.network.start == frozenset()
    assert dict(result.network.fates) == {"1111": (("A", "B", "C", "D"), ())}
    assert result.steps == (4, 4) and result.steady_ends == 1
    assert all(e.sign == 1 and e.bits > 0 and e.support > 0 for e in result.edges if e.in_rule)


@pytest.mark.parametrize("form", ["and", "or", "either"])
def test_the_rules_of_a_toggle_come_back_exactly(form):
    result = infer_network(cells(TOGGLE, 800, 20, seed=1), settings(form=form))
    assert dict(result.network.rules) == TOGGLE
    assert dict(result.network.fates) == {"01": (("Y",), ("X",)), "10": (("X",), ("Y",))}
    assert result.steps == (2, 2) and result.steady_ends == 2


def test_the_rules_of_a_fork_come_back_exactly():
    result = infer_network(cells(FORK, 3000, 60, seed=2), settings())
    assert dict(result.network.rules) == FORK
    assert result.steps == (6, 6) and result.steady_ends == 2


def test_runs_of_the_network_end_where_the_cells_ended():
    toggle = infer_network(cells(TOGGLE, 800, 20, seed=1), settings())
    shares = end_shares(toggle, n_runs=4000)
    assert sum(shares) == 1 and abs(shares[0] - 0.5) < 4 * 0.5 / 4000**0.5
    assert end_shares(infer_network(cells(CASCADE, 1500, 40, seed=0), settings())) == (1.0,)
    wrong = replace(toggle, branches=tuple(replace(b, states=b.states[:1]) for b in toggle.branches))
    assert end_shares(wrong) == (0.0, 0.0), "no run stays at the start"


def test_a_list_of_edges_restricts_the_candidates_and_gives_signs():
    data = cells(CASCADE, 1500, 40, seed=0)
    listed = [("A", "B", 0), ("A", "C", 1), ("C", "D", 2), ("Z", "A", 1), ("D", "D", 1)]
    result = infer_network(data, settings(), listed)
    assert {(e.regulator, e.target) for e in result.edges} == {("A", "B"), ("A", "C"), ("C", "D")}
    assert all(e.sign == 1 and e.listed for e in result.edges), "a sign that is missing is that of the data"
    assert result.network.rules["C"] == "A", "the best of what is allowed"
    assert any("1 of 5 listed edges name a gene that is not in the network" in note for note in result.notes)
    with pytest.raises(UserError, match="none of the 1 listed edges joins two different genes"):
        infer_network(data, settings(), [("A", "Z", 1)])


def test_the_same_cells_give_the_same_network():
    data = cells(FORK, 1000, 60, seed=4)
    first, second = (infer_network(data, settings()) for _ in range(2))
    assert first.network == second.network and first.edges == second.edges


def test_files_are_written_and_the_network_is_read_again(tmp_path):
    result = infer_network(cells(FORK, 1000, 60, seed=3), settings(form="either"))
    files = write(result, tmp_path / "fork.bnet", "cells")
    read = load(files[0])
    assert read.genes == result.network.genes and read.truth_tables == result.network.truth_tables
    assert (read.start, read.fates, read.name) == (result.network.start, result.network.fates, "fork")
    rows = files[1].read_text().splitlines()
    assert rows[0] == "regulator,target,sign,bits,p,in_rule,support,listed" and len(rows) == len(result.edges) + 1
    text = files[2].read_text()
    assert "Steps of the data that the network can take: 6 of 6" in text
    assert "Where runs of the network from the start end: " in text and "elsewhere 0.00" in text


def test_constants_can_be_read_again(tmp_path):
    result = infer_network(cells(CASCADE, 1500, 40, seed=0), settings())
    read = load(write(result, tmp_path / "cascade.bnet", "cells")[0])
    assert isinstance(read, Network) and read.truth_tables == result.network.truth_tables


def test_the_limit_of_time_is_said():
    result = infer_network(cells(CASCADE, 400, 40, seed=0), settings(seconds=1e-9))
    assert sum("the limit of 1e-09 s ended the search" in note for note in result.notes) == 4


def test_genes_that_never_change_are_left_out_and_said():
    data = cells(CASCADE, 1500, 40, seed=0)
    rare = (np.random.default_rng(0).random(1500) < 0.1).astype(float)
    wider = Trajectory("cells", (*data.genes, "E"), np.c_[data.values, rare], data.pseudotime, data.branches)
    result = infer_network(wider, settings())
    assert "E" not in result.network.genes
    assert any(note.startswith("gene E is left out: it is off in most cells") for note in result.notes)
    with pytest.raises(UserError, match="0 of 2 genes change along pseudotime"):
        noise = np.c_[rare, np.roll(rare, 7)]
        infer_network(Trajectory("cells", ("E", "F"), noise, data.pseudotime, data.branches), settings())


def test_without_z3_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "z3", None)
    with pytest.raises(UserError, match=r"pip install 'perturbrl\[infer\]'"):
        infer_network(cells(TOGGLE, 100, 20, seed=1), settings())


def test_too_few_cells_and_constant_genes_are_refused():
    data = cells(TOGGLE, 200, 20, seed=1)
    with pytest.raises(UserError, match=r"branch 'branch 0' has \d+ cells; 2 genes need at least 30"):
        Trajectory("few", data.genes, data.values[:20], data.pseudotime[:20], data.branches)
    flat = np.c_[data.values[:, 0], np.zeros(200)]
    with pytest.raises(UserError, match="gene 'Y' is 0 in every cell"):
        Trajectory("flat", data.genes, flat, data.pseudotime, data.branches)


@pytest.mark.parametrize("change", [{"form": "xor"}, {"alpha": 2.0}, {"seconds": 0}, {"colour": 1}])
def test_settings_are_checked(change):
    with pytest.raises(UserError, match=f"infer.{next(iter(change))}"):
        settings(**change)


def test_every_setting_of_the_search_does_what_it_says():
    data = cells(FORK, 1000, 60, seed=3)
    base = infer_network(data, settings())
    fewer = infer_network(data, settings(alpha=1e-60))
    assert 0 < len(fewer.edges) < len(base.edges) and all(e.p < 1e-60 / 10 for e in fewer.edges)
    nearest = infer_network(data, settings(candidates=1))
    assert len(nearest.edges) == 5 and any("beyond the 1 strongest" in note for note in nearest.notes)
    single = infer_network(data, settings(max_regulators=1))
    assert max(len(names) for names in base.network.regulators) == 2
    assert max(len(names) for names in single.network.regulators) == 1
    coarse = infer_network(data, settings(windows=6))
    assert coarse.branches[0].times.tolist() != base.branches[0].times.tolist()


def test_a_gene_may_wait_as_long_as_is_allowed():
    data, listed = cells(CASCADE, 1500, 40, seed=0), [("A", "B", 1), ("A", "C", 1)]
    patient, strict = (infer_network(data, settings(max_lag=lag), listed) for lag in (1, 0))
    assert "gene C may wait for up to 1 states after its rule has changed" in patient.notes
    assert any(note.startswith("gene C: no rule of its 1 candidates agrees with every state") for note in strict.notes)
