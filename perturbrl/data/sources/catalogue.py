"""Descriptions of all sources, for ``perturbrl data list`` and ``show``. Imports no large library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from perturbrl import paths
from perturbrl.config import choice
from perturbrl.data.fetch import cached_file
from perturbrl.registry import plugin_conf_dirs


@dataclass(frozen=True)
class About:
    """A source, described without its file: modalities, cells (None: unknown until read), origin and licence."""

    modalities: tuple[str, ...]
    cells: int | None
    origin: str
    licence: str


@dataclass(frozen=True)
class Row:
    """One source. ``download`` says whether it has to be fetched, ``cached`` whether that has been done."""

    name: str
    modalities: tuple[str, ...]
    cells: int | None
    origin: str
    licence: str
    download: bool
    cached: bool


_UNSTATED = "none stated; terms of the original depositors"
ABOUT = {
    "landscape": About(
        ("rna", "atac", "protein"),
        10_000,
        "simulated here from a gene network, by default that of Krumsiek et al. 2011",
        "that of perturbrl",
    ),
    "file": About((), None, "your own file, path=FILE", "yours"),
    "pbmc68k_reduced": About(("rna",), 700, "Zheng et al. 2017; ships inside scanpy", "CC BY 4.0 (10x Genomics)"),
    "paul15": About(("rna",), 2_730, "Paul et al. 2015, GSE72857; hosted for scanpy", _UNSTATED),
    "moignard15": About(("rna",), 3_934, "Moignard et al. 2015, supplementary table 7", "the publisher's terms"),
    "pbmc10k_multiome": About(
        ("rna", "atac"), 11_909, "10x Genomics, Cell Ranger ARC 1.0.0", "CC BY 4.0 (10x Genomics)"
    ),
    "iqcell_tcell": About(("rna",), None, "Heydari et al. 2022, repository of IQCELL", "terms of that repository"),
    "norman19": About(("rna",), 111_255, "Norman et al. 2019, GSE133344; hosted by scverse", _UNSTATED),
    "kang18": About(("rna",), 24_673, "Kang et al. 2018, GSE96583; hosted by scverse", _UNSTATED),
}


def describe() -> list[Row]:
    """Return one row for each source that has a YAML file, those of plugins included."""
    return [_row(name, _read(file)) for name, file in sorted(_files().items())]


def show(name: str) -> dict[str, str]:
    """Return the description of one source and its config, as label and text.

    Raises
    ------
    UserError
        There is no such source.
    """
    files = _files()
    config = _read(files[choice(name, files, "source")])
    row = _row(name, config)
    facts = {
        "source": name,
        "modalities": ", ".join(row.modalities) or "-",
        "cells": "unknown until read" if row.cells is None else str(row.cells),
        "origin": row.origin,
        "licence": row.licence,
        "download": ("done" if row.cached else "needed at first use") if row.download else "not needed",
    }
    if row.download:
        facts["cache"] = str(cached_file(str(config["file_name"])))
    return facts | {f"source.{key}": _spell(value) for key, value in config.items() if key != "name"}


def _files() -> dict[str, Path]:
    folders = [paths.conf_dir() / "source", *(folder / "source" for folder in plugin_conf_dirs())]
    return {file.stem: file for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")}


def _read(file: Path) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _row(name: str, config: dict[str, Any]) -> Row:
    about = ABOUT.get(name, About((), None, "a plugin", "see the plugin"))
    file_name = config.get("file_name")
    cached = file_name is not None and cached_file(str(file_name)).exists()
    return Row(name, about.modalities, about.cells, about.origin, about.licence, config.get("url") is not None, cached)


def _spell(value: Any) -> str:
    return "null" if value is None else str(value)
