"""A split as a file: names of conditions and cells, with a checksum, so that others can use the same split.

The file is JSON: ``format``, ``kind``, ``seed``, ``source``, ``checksum`` (of the source), ``strata`` (condition to
stratum), ``conditions`` and ``cells`` (use to names), ``labels`` (sha256 of each cell's condition), ``leaks``,
``notes``, and ``sha256`` of all the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbrl.config import require
from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError
from perturbrl.records import replacing
from perturbrl.screens.schema import Rows, Screen, ScreenSplit

FORMAT = 1
USES = ("train", "validation", "test", "control_train", "control_validation", "control_test")


def digest(split: ScreenSplit, screen: Screen) -> str:
    """Return the sha256 of what the split's file would hold."""
    return _sha256(_content(split, screen))


def held_out(split: ScreenSplit, screen: Screen) -> dict[str, str]:
    """Return the sha256 of the test conditions and of the test cells: what was held out, however the rest was shared.

    Two runs with the same two digests are tested on the same cells, though their splits may differ in controls and
    validation. The digests are of sorted names, a line each.
    """
    cells = screen.obs.index.astype(str).to_numpy()[split.test].tolist()
    names = {"conditions": _condition_names(screen, split.test), "cells": sorted(cells)}
    return {what: hashlib.sha256("\n".join(each).encode()).hexdigest() for what, each in names.items()}


def write_split(split: ScreenSplit, screen: Screen, file: str | Path) -> None:
    """Write a split to ``file`` (JSON), whole or not at all."""
    content = _content(split, screen)
    with replacing(Path(file)) as temporary:
        temporary.write_text(json.dumps({**content, "sha256": _sha256(content)}, indent=1), encoding="utf-8")


def sha256_in(file: Path) -> str | None:
    """Return the sha256 that a split file states; None where the file is none."""
    try:
        return str(_read(file, str(file)).get("sha256"))
    except UserError:
        return None


def read_split(file: str | Path, screen: Screen) -> ScreenSplit:
    """Read a split and find its cells in ``screen``, which may hold further cells.

    Raises
    ------
    UserError
        The file is missing, no split, or was changed by hand; the screen lacks some of its cells, or has them under
        other conditions.
    """
    where = f"split.file={file}"
    content = _read(Path(file), where)
    sha256 = content.pop("sha256", None)
    require(
        sha256 == _sha256(content),
        where,
        "its content does not have the sha256 it states, so it was changed; restore the original file",
    )
    index = pd.Index(screen.obs.index)
    require(index.is_unique, where, "cell names of the screen are not unique, so a split cannot name cells")
    names = {c.name: k for k, c in enumerate(screen.conditions)}
    unknown = sorted(set(content["strata"]) - set(names))
    require(
        not unknown,
        where,
        f"{len(unknown)} of its conditions are not in {screen.source}: {listed(unknown)}; it was made for "
        f"{content['source']}, or under another conditions=",
    )
    rows = {use: _rows(content, use, index, screen, where) for use in USES}
    require(
        content["labels"] == _labels(screen, rows),
        where,
        f"some of its cells are of other conditions in {screen.source}; were labels corrected, or read with another "
        "conditions=?",
    )
    notes = tuple(content["notes"])
    if content["checksum"] != screen.checksum:
        notes += (f"the split file was made for another version of the data (checksum {content['checksum'][:12]})",)
    strata = {names[name]: str(stratum) for name, stratum in content["strata"].items()}
    return ScreenSplit(
        kind=content["kind"],
        seed=content["seed"],
        strata=dict(sorted(strata.items())),
        sha256=str(sha256),
        leaks=tuple(content["leaks"]),
        notes=notes,
        **rows,
    )


def _rows(content: dict[str, Any], use: str, index: pd.Index[str], screen: Screen, where: str) -> Rows:
    """Return the rows of the cells of a use, sorted."""
    cells = content["cells"][use]
    rows = index.get_indexer(pd.Index(cells))
    lacking = np.flatnonzero(rows < 0)
    if len(lacking):
        raise UserError(
            f"{where}: {len(lacking)} of its {len(rows)} {use} cells are not in {screen.source}, the first "
            f"{cells[int(lacking[0])]!r}; it was made for {content['source']} (checksum {content['checksum'][:12]})"
        )
    rows = np.sort(rows).astype(np.int64)
    here, there = _condition_names(screen, rows), content["conditions"][use]
    require(
        here == there,
        where,
        f"its {use} cells are of other conditions in {screen.source}: {listed(sorted(set(here) ^ set(there)))}; "
        "were labels read with another conditions=?",
    )
    return rows


def _read(file: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(file.expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{where}: no such file; to write one: perturbrl data split --out FILE OVERRIDES") from None
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise UserError(f"{where}: not a split file (no JSON)") from None
    keys = {"format", "kind", "seed", "source", "checksum", "strata", "conditions", "cells", "labels", "leaks", "notes"}
    if not isinstance(content, dict) or not keys <= set(content) or set(content["cells"]) != set(USES):
        raise UserError(f"{where}: not a split file; it needs the keys {listed(sorted(keys), 20)}")
    require(content["format"] == FORMAT, where, f"format {content['format']}; this version reads format {FORMAT}")
    return content


def _content(split: ScreenSplit, screen: Screen) -> dict[str, Any]:
    cells = screen.obs.index.astype(str).to_numpy()
    uses = {use: getattr(split, use) for use in USES}
    return {
        "format": FORMAT,
        "kind": split.kind,
        "seed": split.seed,
        "source": screen.source,
        "checksum": screen.checksum,
        "strata": {screen.conditions[k].name: stratum for k, stratum in sorted(split.strata.items())},
        "conditions": {use: _condition_names(screen, rows) for use, rows in uses.items()},
        "cells": {use: cells[rows].tolist() for use, rows in uses.items()},
        "labels": _labels(screen, uses),
        "leaks": list(split.leaks),
        "notes": list(split.notes),
    }


def _condition_names(screen: Screen, rows: Rows) -> list[str]:
    return sorted(screen.conditions[k].name for k in np.unique(screen.condition[rows]))


def _labels(screen: Screen, uses: Mapping[str, Rows]) -> str:
    """Return the sha256 of the name and condition of every cell in use, in the order of their names."""
    rows = np.concatenate(list(uses.values()))
    cells = screen.obs.index.astype(str).to_numpy()[rows]
    names = np.array([c.name for c in screen.conditions], dtype=object)[screen.condition[rows]]
    order = np.argsort(cells.astype(str), kind="stable")
    return hashlib.sha256("\n".join((cells[order] + "\t" + names[order]).tolist()).encode()).hexdigest()


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
