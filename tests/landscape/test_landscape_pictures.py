from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from perturbrl.errors import UserError
from perturbrl.landscape.attractors import basins
from perturbrl.landscape.fixed_points import FixedPoints
from perturbrl.landscape.network import Network
from perturbrl.landscape.pictures import hill
from perturbrl.landscape.pictures.assemble import held, network_scene
from perturbrl.landscape.pictures.cells import read_cells
from perturbrl.landscape.pictures.measured import cells_scene
from perturbrl.landscape.pictures.names import attractor_names
from perturbrl.landscape.pictures.scene import wiring
from perturbrl.landscape.potential import wells

SWITCH = Network(
    {"s": "s", "a": "(s or a) and not b", "b": "(s or b) and not a"}, frozenset({"s"}),
    {"A": (("a",), ("b",)), "B": (("b",), ("a",))}, {}, {}, 0.5,
)  # fmt: skip


def test_signs_of_edges_are_those_of_the_rules():
    rules = {"a": "not b", "b": "a or (b and not a)", "c": "(a and not b) or (b and not a)", "d": "True"}
    edges = wiring(Network(rules, frozenset(), {}, {}, {}, 0.5), {}).edges
    signs = {(edge.source, edge.target): edge.sign for edge in edges}
    assert signs == {
        ("b", "a"): "-", ("a", "b"): "+", ("b", "b"): "+", ("a", "c"): "±", ("b", "c"): "±",
    }  # fmt: skip


def test_attractors_are_named_by_fate_then_by_genes():
    on = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]], dtype=bool)
    network = Network({"a": "a", "b": "b", "c": "c"}, frozenset(), {}, {}, {}, 0.5)
    names = attractor_names(on, ["mono", "mono", "undecided", "undecided"], network)
    assert names == ["mono, b on", "mono, b off", "all off", "b c"]


def test_the_same_attractor_has_one_name_whatever_the_order():
    on = np.eye(4, dtype=bool)
    network = Network({gene: gene for gene in "abcd"}, frozenset(), {}, {}, {}, 0.5)
    names = attractor_names(on, ["mono"] * 4, network)
    assert sorted(names) == ["mono 1", "mono 2", "mono 3", "mono 4"]
    assert attractor_names(on[::-1], ["mono"] * 4, network) == names[::-1]


@pytest.fixture(scope="module")
def boolean():
    return network_scene(SWITCH, "switch", dynamics="boolean", noise=0.0, seed=0, n_cells=400)


def test_a_boolean_scene_has_the_attractors_and_basins_of_the_network(boolean):
    (table,) = boolean.tables
    exact = basins(SWITCH)
    assert exact.exact and len(table.rows) == len(exact.shares)
    assert sorted(float(row[3].removesuffix(" %")) for row in table.rows) == sorted((100 * exact.shares).round(1))
    assert {"A, s on", "B, s on"} <= set(table.groups)
    share = {row[0]: row[table.columns.index("from the progenitor")] for row in table.rows}
    assert share["A, s on"] == share["B, s on"] == "50.0 %"  # a symmetric race


def test_ways_end_at_the_attractor_of_their_group(boolean):
    plane, time = boolean.views
    assert {path.group for path in plane.paths} == {"A, s on", "B, s on"}
    for view in (plane, time):
        marks = {mark.name: mark.point for mark in view.marks}
        assert "progenitor" in marks
        for path in view.paths:
            assert np.allclose(path.points[-1], marks[path.group], atol=1e-6)
            assert np.allclose(path.points[0], marks["progenitor"], atol=1e-6)
    assert time.downhill and time.surface.axes[1][0] > 0 and time.surface.axes[1][-1] < 1


def test_an_attractor_beyond_the_rows_of_the_table_is_drawn():
    rules = {gene: gene for gene in "abcdef"} | {"x": "a"}
    inputs = Network(rules, frozenset("abcdef"), {}, {}, {}, 0.5)
    scene = network_scene(inputs, "inputs", dynamics="boolean", noise=0.0, seed=0, n_cells=60)
    assert len(scene.tables[0].rows) == 30 and scene.views[0].marks[0].name == "a b and 5 more"


def test_many_attractors_are_drawn_by_fate():
    inputs = {gene: gene for gene in "pqr"}
    many = Network({**SWITCH.rules, **inputs}, frozenset(), SWITCH.fates, {}, {}, 0.5)
    scene = network_scene(many, "many", dynamics="boolean", noise=0.0, seed=0, n_cells=600)
    assert scene.tables[0].title.endswith("(40)") and {"A", "B"} <= {mark.name for mark in scene.views[0].marks}
    assert set(scene.tables[0].groups) <= set(scene.groups)
    assert sum(path.group == "A" for path in scene.views[0].paths) >= 3


def test_cells_of_a_start_that_is_an_attractor_start_at_random():
    resting = Network(SWITCH.rules, frozenset({"s", "a"}), SWITCH.fates, {}, {}, 0.5)
    scene = network_scene(resting, "resting", dynamics="boolean", noise=0.0, seed=0, n_cells=100)
    assert "from random states" in scene.lead and len({path.group for path in scene.views[0].paths}) > 1


def test_a_scene_is_the_same_for_the_same_seed(boolean):
    again = network_scene(SWITCH, "switch", dynamics="boolean", noise=0.0, seed=0, n_cells=400)
    assert np.array_equal(again.views[0].surface.values, boolean.views[0].surface.values)
    other = network_scene(SWITCH, "switch", dynamics="boolean", noise=0.0, seed=1, n_cells=400)
    assert not np.array_equal(other.views[0].surface.values, boolean.views[0].surface.values)


def test_a_hill_scene_has_wells_at_its_fixed_points():
    scene = network_scene(SWITCH, "switch", dynamics="hill", noise=0.1, seed=0, n_cells=400)
    surface = scene.views[0].surface
    found = wells(surface)
    marks = [mark for mark in scene.views[0].marks if mark.group]
    assert len(marks) >= 2 and len(scene.tables) == 2
    for mark in marks:
        gap = np.linalg.norm(found.points - mark.point, axis=1).min()
        assert gap < 0.25 and surface.at(mark.point) < surface.values.max() - 1


def test_genes_are_held_by_their_rules():
    changed = held(SWITCH, "s=0, a=1")
    assert dict(changed.rules) == {**SWITCH.rules, "s": "False", "a": "True"} and changed.start == {"a"}
    assert held(SWITCH, "inputs=1").rules["s"] == "True"
    for text, words in (("z=1", "'z' is not known"), ("a", "GENE=0"), ("a=2", "GENE=0")):
        with pytest.raises(UserError, match=words):
            held(SWITCH, text)


def test_a_network_that_never_rests_is_refused_for_the_hill_equations(monkeypatch):
    nowhere = FixedPoints(np.full((1, 3), 0.5), np.ones(1), np.zeros(1), np.zeros(1), 1.0)
    monkeypatch.setattr(hill, "fixed_points", lambda *_, **__: nowhere)
    ring = Network({"a": "not c", "b": "not a", "c": "not b"}, frozenset(), {}, {}, {}, 0.5)
    with pytest.raises(UserError, match="--dynamics boolean"):
        network_scene(ring, "ring", dynamics="hill", noise=0.1, seed=0, n_cells=60)
    scene = network_scene(ring, "ring", dynamics="boolean", noise=0.1, seed=0, n_cells=60)
    assert scene.tables[0].rows[0][1] in ("cycle", "complex")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Two arms from one start: 8 genes rise along one, 8 others along the other."""
    rng = np.random.default_rng(0)
    t, arm = rng.random(600), rng.integers(2, size=600)
    mean = np.full((600, 20), 10.0)
    for k in (0, 1):
        mean[:, 8 * k : 8 * k + 8] += (80 * t * (arm == k))[:, None]
    names = np.where(t < 0.25, "stem", np.where(arm == 0, "red", "white"))
    obs = pd.DataFrame({"cell_type": names, "t": t, "arm": arm.astype(str)}, index=[f"c{k}" for k in range(600)])
    data = anndata.AnnData(rng.poisson(mean).astype(np.float32), obs=obs)
    data.var_names = [f"gene{k}" for k in range(20)]
    data.obsm["X_flat"] = np.column_stack([t * (2 * arm - 1), rng.normal(0, 0.1, 600)])
    path = tmp_path_factory.mktemp("cells") / "arms.h5ad"
    data.write_h5ad(path)
    return path


NOTHING = {"group": None, "pseudotime": None, "root": None, "basis": None, "seed": 0}


def test_measured_cells_have_wells_and_ways_along_pseudotime(file):
    cells = read_cells(file, **(NOTHING | {"root": "stem", "basis": "X_flat"}))
    obs = anndata.read_h5ad(file).obs
    for arm in ("0", "1"):
        inside = (obs["arm"] == arm).to_numpy()
        assert np.corrcoef(cells.time[inside], obs["t"][inside].rank())[0, 1] > 0.8
    scene = cells_scene(cells)
    assert set(scene.groups) == {"stem", "red", "white"} and [view.key for view in scene.views] == ["plane", "time"]
    ways = {path.group: path.points for path in scene.views[0].paths}
    assert ways["red"][-1][0] < -0.5 < 0.5 < ways["white"][-1][0] and abs(ways["red"][0][0]) < 0.3


def test_without_pseudotime_there_is_the_density_alone(file):
    scene = cells_scene(read_cells(file, **NOTHING))
    assert [view.key for view in scene.views] == ["plane"] and not scene.views[0].paths
    assert scene.views[0].axis_names[0] == "principal component 1"


def test_a_column_of_pseudotime_is_used(file):
    cells = read_cells(file, **(NOTHING | {"pseudotime": "t"}))
    assert np.array_equal(np.argsort(cells.time), np.argsort(anndata.read_h5ad(file).obs["t"].to_numpy()))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"root": "steem"}, "did you mean 'stem'"),
        ({"basis": "X_umpa"}, "not in obsm"),
        ({"group": "types"}, "types"),
        ({"pseudotime": "tt"}, "tt"),
    ],
)
def test_what_a_file_lacks_is_named(file, wrong, words):
    with pytest.raises(UserError, match=words):
        read_cells(file, **(NOTHING | wrong))
