"""The kernel of a network between targets: against dense walks, and in the hands of those who learn from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.configs import description_config
from fakes.screens import made_raw, made_screen, made_split

from perturbrl.config import fingerprint
from perturbrl.effects.baselines import BaselineContext, make_baseline
from perturbrl.errors import UserError
from perturbrl.screens.describe import describe
from perturbrl.screens.network import TargetKernel, target_kernel

EDGES = [("A", "H"), ("B", "H"), ("B", "A"), ("C", "D"), ("D", "E"), ("E", "F"), ("H", "E"), ("A", "B"), ("C", "C")]
GENES = ("A", "B", "C", "F", "absent")


@pytest.fixture
def edges(tmp_path: Path) -> str:
    return write(tmp_path / "edges.csv", EDGES)


def write(file: Path, rows: list[tuple[str, str]], header: str = "entity1,entity2") -> str:
    file.write_text("\n".join([header, *(",".join(row) for row in rows)]))
    return str(file)


def kernel(file: str, genes: tuple[str, ...] = GENES, **changes: Any) -> TargetKernel:
    given = {"aliases": {}, "shuffle": None, "where": "description.network"} | changes
    return target_kernel(file, genes, **given)


def test_the_kernel_is_that_of_dense_walks(edges: str) -> None:
    names = sorted({n for edge in EDGES for n in edge})
    near = np.zeros((7, 7))
    for one, two in EDGES:
        if one != two:
            near[names.index(one), names.index(two)] = near[names.index(two), names.index(one)] = 1.0
    step = near / near.sum(axis=1, keepdims=True)
    start = np.array([[float(n == g) for n in names] for g in GENES])
    visits = start
    for _ in range(4):
        visits = 0.5 * start + 0.5 * visits @ step
    root = np.sqrt(visits)
    length = np.linalg.norm(root, axis=1, keepdims=True)
    root = root / np.where(length > 0, length, 1)
    found = kernel(edges)
    np.testing.assert_allclose(found.kernel, root @ root.T, atol=1e-12)
    assert found.missing.tolist() == [False, False, False, False, True]
    assert found.kernel[0, 1] > found.kernel[0, 3] and not found.kernel[4].any()


def test_components_have_the_kernel_as_their_products(edges: str) -> None:
    found = kernel(edges)
    trained = np.array([True, True, True, False, False])
    numbers = found.components(trained, 5)
    np.testing.assert_allclose(numbers[:3] @ numbers[:3].T, found.kernel[:3, :3], atol=1e-10)
    # Nystroem: products with training targets are exact for a target that is not trained
    np.testing.assert_allclose(numbers[3] @ numbers[:3].T, found.kernel[3, :3], atol=1e-10)
    assert not numbers[4].any() and not numbers[:, 3:].any()


def test_combinations_are_sums(edges: str) -> None:
    found = kernel(edges)
    between = found.between([[0], [0, 1], [], [4]])
    walks = found.walks.toarray()
    summed = walks[0] + walks[1]
    assert between[0, 1] == pytest.approx(walks[0] @ summed / np.linalg.norm(summed))
    assert between[0, 0] == pytest.approx(1) and not between[2:].any()


def test_an_alias_finds_its_gene(edges: str) -> None:
    found = kernel(edges, aliases={"absent": "C"})
    assert found.kernel[4, 2] == pytest.approx(1) and not found.missing.any()


def test_shuffling_hands_the_same_places_to_other_targets(edges: str) -> None:
    true, shuffled = kernel(edges).kernel, [kernel(edges, shuffle=seed).kernel for seed in range(8)]
    for each in shuffled:
        np.testing.assert_allclose(np.linalg.eigvalsh(each), np.linalg.eigvalsh(true), atol=1e-9)
    assert not all(np.allclose(true, each) for each in shuffled)
    assert np.array_equal(shuffled[1], kernel(edges, shuffle=1).kernel)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("a,b\n1,2\n", "needs columns entity1 and entity2, or source and target; it has"),
        ("entity1,entity2\nA,A\n", "holds no edge between two genes"),
        ("entity1,entity2\nX,Y\n", "none of the 5 targets is in it, such as A"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=f"^description.network={file}: .*{message}"):
        kernel(str(file))


def test_the_kind_needs_a_file() -> None:
    with pytest.raises(UserError, match="description.network: no file; the kind network needs a .csv"):
        description_config(kinds=["network"])


def test_older_configs_keep_their_hash() -> None:
    old = {"description": {"name": "default", "kinds": ["one_hot"]}}
    new = {"description": old["description"] | {"network": None, "network_aliases": {}, "network_shuffle": False}}
    assert fingerprint(old) == fingerprint(new)


# --- those who learn from it


def tabled(tmp_path: Path, **changes: Any) -> Any:
    screen = made_screen(made_raw())
    targets = sorted({t for c in screen.conditions for t in c.targets})
    rows = [(t, f"HUB{k % 2}") for k, t in enumerate(targets)]
    file = write(tmp_path / "edges.csv", rows)
    config = description_config(kinds=["network"], network=file, **changes)
    return describe(screen, made_split(screen), config), targets


def test_the_table_says_what_was_read(tmp_path: Path) -> None:
    table, targets = tabled(tmp_path)
    n = len(table.screen.conditions)
    assert table.kernel.shape == (n, n) and np.isfinite(table.description).all()
    assert f"({len(targets)} of {len(targets)} targets are in it)" in " ".join(table.leaks)


def test_kernel_ridge_and_nearest_neighbours_use_the_kernel(tmp_path: Path) -> None:
    """Conditions that the network cannot tell apart are predicted alike, whatever the numbers of the description."""
    table, targets = tabled(tmp_path)
    single = {c.targets[0]: k for k, c in enumerate(table.screen.conditions) if len(c.targets) == 1}
    alike = [single[t] for k, t in enumerate(targets) if t in single and k % 2 == 0]
    other = [single[t] for k, t in enumerate(targets) if t in single and k % 2 == 1]
    shared = table.kernel[np.ix_(alike, alike)]
    assert shared[0, 1] > table.kernel[alike[0], other[0]]
    context = BaselineContext(seed=0, action_rms=0.0)
    for name in ("kernel_ridge", "knn"):
        baseline = make_baseline(name, context)
        baseline.fit(table)
        before = baseline.predict(np.arange(len(table.screen.conditions)))
        table.description[:] = np.random.default_rng(0).normal(size=table.description.shape)
        baseline.fit(table)
        assert np.array_equal(baseline.predict(np.arange(len(table.screen.conditions))), before)
        assert np.isfinite(before).all()
