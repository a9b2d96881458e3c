from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.screens import made_raw, made_screen, made_split, names

from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError
from perturbrl.screens.schema import Screen, ScreenSplit
from perturbrl.screens.split_files import USES, digest, held_out, read_split, write_split


@pytest.fixture(scope="module")
def screen() -> Screen:
    return made_screen()


@pytest.fixture(scope="module")
def split(screen: Screen) -> ScreenSplit:
    return made_split(screen, seed=3)


@pytest.fixture
def file(screen: Screen, split: ScreenSplit, tmp_path: Path) -> Path:
    write_split(split, screen, tmp_path / "split.json")
    return tmp_path / "split.json"


def same(a: ScreenSplit, b: ScreenSplit) -> bool:
    rows = all(np.array_equal(getattr(a, use), getattr(b, use)) for use in USES)
    return rows and all(
        getattr(a, key) == getattr(b, key) for key in ("kind", "seed", "strata", "sha256", "leaks", "notes")
    )


def test_what_was_written_is_read(screen: Screen, split: ScreenSplit, file: Path) -> None:
    assert same(read_split(file, screen), split)
    assert same(made_split(screen, "combinations", file=str(file)), split)
    content = json.loads(file.read_text())
    assert content["sha256"] == split.sha256 == digest(split, screen)
    assert set(content["conditions"]["test"]) == names(screen, split.test)


def shuffled(raw: RawCells, extra: int) -> RawCells:
    """The same cells in another order, with cells that the split does not know in between."""
    order = np.random.default_rng(0).permutation(raw.n_cells + extra) % raw.n_cells
    obs = raw.obs.iloc[order].copy()
    seen: set[str] = set()
    fresh = []
    for name in obs.index:
        fresh.append(f"more_{name}" if name in seen else name)
        seen.add(name)
    obs.index = fresh
    modality = raw.modalities["rna"]
    return dataclasses.replace(
        raw, obs=obs, modalities={"rna": dataclasses.replace(modality, x=modality.x[order])}, checksum="1" * 64
    )


def test_cells_are_found_by_name_in_another_file(screen: Screen, split: ScreenSplit, file: Path) -> None:
    other = made_screen(shuffled(made_raw(), 40))
    found = read_split(file, other)
    for use in USES:
        here, there = (set(s.obs.index[getattr(p, use)]) for s, p in ((screen, split), (other, found)))
        assert here == there
    assert found.sha256 == split.sha256 and "another version of the data (checksum 000000000000)" in found.notes[-1]


def edit(file: Path, sign: bool = True, **changes: Any) -> None:
    from perturbrl.screens.split_files import _sha256

    content = {**json.loads(file.read_text()), **changes}
    content.pop("sha256")
    content = {k: v for k, v in content.items() if v is not None}
    file.write_text(json.dumps({**content, "sha256": _sha256(content) if sign else "0" * 64}))


def check_refused(file: Path, screen: Screen, said: str, **changes: Any) -> None:
    with pytest.raises(UserError) as error:
        made_split(screen, "combinations", file=str(file), **changes)
    assert str(error.value).startswith(f"split.file={file}: ") and said in str(error.value)


def test_a_file_that_was_changed(screen: Screen, file: Path) -> None:
    edit(file, sign=False, seed=4)
    check_refused(file, screen, "does not have the sha256 it states, so it was changed; restore the original file")


def test_a_file_of_another_kind(screen: Screen, split: ScreenSplit, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_split(made_split(screen, "additive"), screen, file)
    check_refused(
        file, screen, "holds a split of the kind additive, but split.kind is combinations; choose split=additive"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "not a split file (no JSON)"), ("[]", "it needs the keys"), ('{"kind": "x"}', "it needs the keys")],
)
def test_a_file_that_is_no_split(screen: Screen, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.json").write_text(content)
    check_refused(tmp_path / "x.json", screen, said)


def test_no_file(screen: Screen, tmp_path: Path) -> None:
    check_refused(
        tmp_path / "none.json", screen, "no such file; to write one: perturbrl data split --out FILE OVERRIDES"
    )


def test_a_later_format(screen: Screen, file: Path) -> None:
    edit(file, format=9)
    check_refused(file, screen, "format 9; this version reads format 1")


def test_a_screen_without_some_of_the_cells(file: Path) -> None:
    raw = made_raw()
    fewer = made_screen(dataclasses.replace(raw, obs=raw.obs.assign(keep=np.arange(raw.n_cells) > 9)), keep="keep")
    check_refused(file, fewer, "cells are not in made, the first 'cell")


def relabelled(**names: str) -> Screen:
    raw = made_raw()
    return made_screen(
        dataclasses.replace(raw, obs=raw.obs.assign(perturbation=raw.obs["perturbation"].replace(names)))
    )


def test_a_screen_whose_labels_are_others(split: ScreenSplit, screen: Screen, file: Path) -> None:
    held, kept = ({n for n in names(screen, rows) if "+" not in n} for rows in (split.test, split.train))
    (a, b, *_), (c, d, *_) = sorted(held), sorted(kept)
    check_refused(file, relabelled(**{a: "Z"}), f"1 of its conditions are not in made: {a}")
    check_refused(file, relabelled(**{c: "Z"}), "train cells are of other conditions in made")
    # Swapped within a use, so that each use has the conditions that it should have.
    check_refused(file, relabelled(**{c: d, d: c}), "some of its cells are of other conditions in made")
    check_refused(file, relabelled(**{a: b, b: a}), "some of its cells are of other conditions in made")


def test_a_split_that_leaks_is_refused_from_a_file_too(screen: Screen, file: Path) -> None:
    cells = json.loads(file.read_text())["cells"]
    edit(file, cells={**cells, "train": [*cells["train"], cells["test"][0]]})
    with pytest.raises(UserError):
        made_split(screen, "combinations", file=str(file))


def test_names_that_are_not_unique(screen: Screen, file: Path) -> None:
    raw = made_raw()
    obs = raw.obs.copy()
    obs.index = ["cell0", *obs.index[:-1]]
    check_refused(file, made_screen(dataclasses.replace(raw, obs=obs)), "cell names of the screen are not unique")


def test_what_is_held_out_does_not_depend_on_the_draw_of_the_rest() -> None:
    dosed = made_screen(made_raw(labels=("dexa", "bud"), doses=(1.0, 3.0, 10.0, 30.0)), dose="amount")
    ten = [made_split(dosed, "unseen_dose", seed=seed) for seed in range(10)]
    assert len({split.sha256 for split in ten}) == 10  # controls are drawn anew
    assert len({tuple(held_out(split, dosed).values()) for split in ten}) == 1


def test_other_test_conditions_or_cells_are_held_out_anew(screen: Screen) -> None:
    drawn = [held_out(made_split(screen, "combinations", seed=seed), screen) for seed in range(4)]
    assert len({each["conditions"] for each in drawn}) > 1
    labels = tuple(f"G{k}" for k in range(6))
    replicates = made_screen(made_raw(labels=labels, batches=("b1", "b2", "b3"), n=60, n_control=60))
    splits = [made_split(replicates, "unseen_batch", held_out=batch) for batch in replicates.batches]
    each = [held_out(split, replicates) for split in splits]
    assert len({e["conditions"] for e in each}) == 1 and len({e["cells"] for e in each}) == 3
