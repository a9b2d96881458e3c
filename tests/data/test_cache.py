"""Prepared cells on disk: what is damaged is prepared anew, and a full disk costs the cache only."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perturbrl.data.cache import cached_table
from perturbrl.data.schema import CellTable


def table() -> CellTable:
    rng = np.random.default_rng(0)
    return CellTable(
        x=rng.random((20, 6), dtype=np.float32),
        features=tuple("abcdef"),
        slices={"rna": slice(0, 6)},
        pseudotime=rng.random(20, dtype=np.float32),
        train=np.arange(12),
        test=np.arange(12, 20),
        obs=pd.DataFrame({"kind": ["x", "y"] * 10}),
        source="made",
        checksum="0" * 64,
        leaks=(),
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERTURBRL_CACHE", str(tmp_path))
    return tmp_path / "tables"


def get(built: list[int]) -> CellTable:
    def build() -> CellTable:
        built.append(1)
        return table()

    return cached_table("settings", None, "code", build)


def same(one: CellTable, two: CellTable) -> bool:
    return one.x.tobytes() == two.x.tobytes() and one.features == two.features and one.obs.equals(two.obs)


def test_cut_anywhere_it_is_prepared_anew(cache: Path) -> None:
    built: list[int] = []
    first = get(built)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    lengths = range(0, len(whole), 97)
    for n, length in enumerate(lengths, 2):
        file.write_bytes(whole[:length])
        assert same(get(built), first) and len(built) == n
    assert same(get(built), first) and len(built) == 1 + len(lengths)


def test_flipped_anywhere_it_is_prepared_anew_or_the_same(cache: Path) -> None:
    built: list[int] = []
    first = get(built)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(whole), 300):
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
        assert same(get(built), first)
    assert len(built) > 150


def test_a_full_disk_costs_the_cache_only(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match=r"cannot be cached \(No space left on device\)"):
        assert same(get([]), table())
    assert not list(cache.iterdir())
