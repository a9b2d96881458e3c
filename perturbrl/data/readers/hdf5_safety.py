"""Open untrusted HDF5 files: nothing outside the file is read, and groups must not contain themselves.

An HDF5 file can take data from others (external links, external storage, virtual datasets), and its groups can contain
themselves. Readers built on h5py follow all of these. Therefore every link and dataset is checked before a reader
starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from perturbrl.data.readers.opened import memory_bytes
from perturbrl.errors import UserError

MOST_PATHS = 1_000_000
"""Most paths through a file; an object that is linked several times counts once for each path to it."""
MOST_LEVELS = 64
MOST_UNWRITTEN = 1 << 26
"""Bytes of an array without stored data: a small one may be all zeros, a larger one is refused."""
_ONE_FILE = "perturbrl reads nothing outside the file; copy the data into it"


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading after checking that every link and dataset stays in the file.

    Raises
    ------
    UserError
        The file holds an external or user-defined link, a dataset stored in other files, a virtual dataset, a soft link
        that leads nowhere, a group that contains itself, or more paths or levels than any real file has.
    OSError
        The file is no HDF5 file, or is damaged.
    """
    with h5py.File(path, "r") as file:
        check_inside(file, str(path))
        yield file


def check_inside(file: h5py.File, path: str) -> None:
    """Raise ``UserError``, as ``open_hdf5`` says, unless everything in ``file`` is stored in it."""
    graph = _Graph(path)
    root = graph.add_tree(file.id)
    graph.resolve_soft_links(file.id)
    graph.check_paths(root)


def check_size(dataset: h5py.Dataset, location: str) -> None:
    """Raise ``UserError`` if a dataset does not fit into memory as its header declares it, or was never written."""
    size = int(dataset.size or 0) * int(dataset.dtype.itemsize)
    if size > memory_bytes():
        raise UserError(
            f"{location}: an array of shape {dataset.shape} and type {dataset.dtype} ({size / 2**30:.1f} GiB) does not "
            f"fit into memory ({memory_bytes() / 2**30:.1f} GiB are free)"
        )
    if size > MOST_UNWRITTEN and not dataset.id.get_storage_size():
        raise UserError(
            f"{location}: an array of {size / 2**30:.1f} GiB is declared, but nothing was written; copy the file again"
        )


@dataclass
class _Graph:
    """Objects of a file by address, what each group links to, and soft links yet to be resolved."""

    path: str
    children: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    soft: list[tuple[int, Any, bytes, str]] = field(default_factory=list)

    def add_tree(self, root: Any) -> int:
        """Add every object that hard links lead to; these are all objects there are. Returns the root's address."""
        start = int(h5py.h5o.get_info(root).addr)
        self.children[start] = []
        todo = [(root, start, "")]
        while todo:
            group, address, name = todo.pop()
            for link in group:
                location = f"{name}/{self._name(link, name)}"
                if not self._is_hard(group, link, address, location):
                    continue
                child = self._open_object(group, link, location)
                at = int(h5py.h5o.get_info(child).addr)
                self.children[address].append((location, at))
                if at in self.children:
                    continue
                self.children[at] = []
                if isinstance(child, h5py.h5g.GroupID):
                    todo.append((child, at, location))
                elif isinstance(child, h5py.h5d.DatasetID):
                    self._check_storage(child, location)
        return start

    def resolve_soft_links(self, root: Any) -> None:
        """Turn soft links into edges; only now, as one could lead through an external link."""
        for address, group, link, location in self.soft:
            target = group.links.get_val(link).decode("utf-8", "replace")
            try:
                info = h5py.h5o.get_info(h5py.h5o.open(group, link))
            except (KeyError, OSError, RuntimeError, ValueError):
                raise UserError(
                    f"{self.path}: {location} is a soft link to {target!r}, which is not in the file; remove the link"
                ) from None
            if int(info.addr) not in self.children or info.fileno != h5py.h5o.get_info(root).fileno:
                raise UserError(f"{self.path}: {location} is a soft link to {target!r} of another file; {_ONE_FILE}")
            self.children[address].append((location, int(info.addr)))

    def check_paths(self, root: int) -> None:
        """Count the paths from the root depth first; a group met on the way to itself is a loop."""
        paths: dict[int, int] = {}
        stack = [(root, iter(self.children[root]))]
        active = {root: 1}
        while stack:
            address, links = stack[-1]
            for location, child in links:
                if child in active:
                    raise UserError(
                        f"{self.path}: {location} links back to a group that contains it, an endless loop; "
                        "remove the link"
                    )
                if child in paths:
                    active[address] += paths[child]
                    continue
                stack.append((child, iter(self.children[child])))
                active[child] = 1
                break
            else:
                stack.pop()
                paths[address] = active.pop(address)
                if stack:
                    active[stack[-1][0]] += paths[address]
            if len(stack) > MOST_LEVELS or active.get(address, 0) > MOST_PATHS:
                raise UserError(
                    f"{self.path}: groups are nested more than {MOST_LEVELS} levels deep, or linked in more than "
                    f"{MOST_PATHS} ways; write the file again with a current anndata or mudata"
                )

    def _name(self, link: bytes, group: str) -> str:
        try:
            return link.decode("utf-8")
        except UnicodeDecodeError:
            raise UserError(
                f"{self.path}: {group or '/'} holds the name {link!r}, which is not UTF-8; rename it"
            ) from None

    def _is_hard(self, group: Any, link: bytes, address: int, location: str) -> bool:
        """Say whether a link is a hard one; keep soft ones for later, refuse all others."""
        kind = group.links.get_info(link).type
        if kind == h5py.h5l.TYPE_HARD:
            return True
        if kind == h5py.h5l.TYPE_SOFT:
            self.soft.append((address, group, link, location))
            return False
        if kind == h5py.h5l.TYPE_EXTERNAL:
            file, target = (part.decode("utf-8", "replace") for part in group.links.get_val(link))
            raise UserError(
                f"{self.path}: {location} is an external link, to {target!r} in the file {file!r}; {_ONE_FILE}"
            )
        raise UserError(f"{self.path}: {location} is a link of an unknown kind ({kind}); {_ONE_FILE}")

    def _open_object(self, group: Any, link: bytes, location: str) -> Any:
        try:
            return h5py.h5o.open(group, link)
        except (KeyError, OSError, RuntimeError, ValueError, TypeError) as error:
            message = (str(error).splitlines() or [""])[0][:120]
            raise UserError(
                f"{self.path}: {location} cannot be opened ({message}), the file is damaged; copy or download it again"
            ) from None

    def _check_storage(self, dataset: Any, location: str) -> None:
        plist = dataset.get_create_plist()
        layout = plist.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            raise UserError(f"{self.path}: {location} is a virtual dataset, a view of other files; {_ONE_FILE}")
        # only contiguous datasets can lie in other files
        if layout == h5py.h5d.CONTIGUOUS and plist.get_external_count():
            file = plist.get_external(0)[0].decode("utf-8", "replace")
            raise UserError(f"{self.path}: {location} has external storage, the file {file!r}; {_ONE_FILE}")
