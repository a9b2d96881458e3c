"""What a malformed file is: how it is made from a good one, and what both ``data validate`` and ``train`` must say."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ALL = ("rna", "atac", "joint", "cite")
N, G = 120, 12  # cells and genes of every good file


@dataclass(frozen=True)
class Case:
    """``ready`` are the choices of ``data=`` that train, ``refused`` a regular expression of the words if none does.

    ``screen`` is one of what env=counterfactual is refused with. Where ``ready`` and ``refused`` are both None (bytes
    overwritten at random), any answer will do that both commands give.
    """

    name: str
    base: str
    change: Callable[[Path], None]
    ready: tuple[str, ...] | None
    refused: str | None
    quick: bool
    screen: str | None = None

    def make(self, bases: dict[str, Path], folder: Path) -> Path:
        source = bases[self.base]
        path = folder / f"{self.name}{source.suffix}"
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, path)
        self.change(path)
        return path


class Collection:
    """Cases of one format, in the order in which they are added."""

    def __init__(self, prefix: str, base: str, ready: tuple[str, ...]) -> None:
        self.prefix, self.base, self.good = prefix, base, ready
        self.cases: list[Case] = []

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def refused(self, name: str, words: str, change: Callable[[Any], None], quick: bool = False) -> None:
        self._add(name, change, None, words, quick)

    def ready(
        self,
        name: str,
        change: Callable[[Any], None],
        data: tuple[str, ...] | None = None,
        quick: bool = False,
        screen: str | None = None,
    ) -> None:
        self._add(name, change, self.good if data is None else data, None, quick, screen)

    def either(self, name: str, change: Callable[[Any], None]) -> None:
        self._add(name, change, None, None, False)

    def _add(
        self,
        name: str,
        change: Callable[[Any], None],
        ready: tuple[str, ...] | None,
        words: str | None,
        quick: bool,
        screen: str | None = None,
    ) -> None:
        self.cases.append(Case(f"{self.prefix}_{name}", self.base, change, ready, words, quick, screen))


def inside(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    """Turn a change of an open HDF5 file into one of a path."""

    def of_path(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return of_path


def put(where: str, value: Any, **options: Any) -> Callable[[Path], None]:
    """Replace a dataset (or group), whose attributes stay; ``value`` may be a function of the old content."""

    def change(file: h5py.File) -> None:
        attributes: dict[str, Any] = {}
        old = None
        if where in file:
            attributes = dict(file[where].attrs)
            old = file[where][()] if isinstance(file[where], h5py.Dataset) else None
            del file[where]
        file.create_dataset(where, data=value(old) if callable(value) else value, **options)
        for name, attribute in attributes.items():
            if name != "encoding-type" or isinstance(old, np.ndarray):
                file[where].attrs[name] = attribute

    return inside(change)


def at(where: str, position: Any, value: Any) -> Callable[[Path], None]:
    """Overwrite one element of a dataset."""

    def change(file: h5py.File) -> None:
        content = file[where][()]
        content[position] = value
        file[where][...] = content

    return inside(change)


def attribute(where: str, name: str, value: Any) -> Callable[[Path], None]:
    """Set an attribute; None removes it."""

    def change(file: h5py.File) -> None:
        if value is None:
            del file[where].attrs[name]
        else:
            file[where].attrs[name] = value

    return inside(change)


def without(*names: str) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return inside(change)


def link(where: str, target: Any) -> Callable[[Path], None]:
    """Replace an object by a soft or an external link."""

    def change(file: h5py.File) -> None:
        if where in file:
            del file[where]
        file[where] = target

    return inside(change)


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        for one in changes:
            one(path)

    return change


def cut(share: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return change


def content(value: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(value) and None


def noise(seed: int, share: float = 0.001) -> Callable[[Path], None]:
    """Overwrite bytes at random places, always the same ones."""

    def change(path: Path) -> None:
        rng = np.random.default_rng(seed)
        data = np.frombuffer(path.read_bytes(), np.uint8).copy()
        places = rng.integers(0, len(data), max(4, int(len(data) * share)))
        data[places] = rng.integers(0, 256, len(places), dtype=np.uint8)
        path.write_bytes(data.tobytes())

    return change
