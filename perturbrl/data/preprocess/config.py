"""The schema of ``conf/data/*.yaml`` and the rules between its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from omegaconf import OmegaConf

from perturbrl import paths, registry
from perturbrl.bounds import NotEmpty, OneOf, PositiveFloat, PositiveInt
from perturbrl.config import choice, require
from perturbrl.data.schema import MODALITIES

PRESETS = ("strict", "released")
SELECTIONS = ("hvg", "mutual_information", "none")
PSEUDOTIMES = ("preset", "dpt", "row", "obs")


@dataclass(frozen=True)
class DataConfig:
    """Modalities and preprocessing; the comments of the YAML explain each key."""

    name: str
    modalities: Annotated[list[Annotated[str, OneOf(*MODALITIES)]], NotEmpty("[rna]")]
    preset: Annotated[str, OneOf(*PRESETS)]
    target_sum: PositiveFloat | None
    log1p: bool
    tfidf_scale: PositiveFloat | None
    clr: bool
    select: Annotated[str, OneOf(*SELECTIONS)]
    n_features: dict[str, PositiveInt | None]
    scale: bool
    pseudotime: Annotated[str, OneOf(*PSEUDOTIMES)]
    root: str | None
    dpt_pcs: PositiveInt
    dpt_neighbors: PositiveInt
    dpt_components: PositiveInt

    @property
    def pseudotime_kind(self) -> str:
        """``dpt``, ``row`` or ``obs``, with ``preset`` resolved."""
        if self.pseudotime != "preset":
            return self.pseudotime
        return "row" if self.preset == "released" else "dpt"

    def check(self, group: str) -> None:
        """Raise ``UserError`` for a repeated or unknown modality."""
        doubled = len(set(self.modalities)) < len(self.modalities)
        require(not doubled, f"{group}.modalities", f"{self.modalities} names a modality twice")
        for name in self.n_features:
            choice(name, MODALITIES, f"{group}.n_features")


def data_needs() -> Mapping[str, list[str]]:
    """Return the modalities of each choice of ``data=``, read from the YAML of the package and of plugins."""
    folders = [paths.conf_dir(), *registry.plugin_conf_dirs()]
    files = [file for folder in folders for file in sorted((folder / "data").glob("*.yaml"))]
    needs = {file.stem: OmegaConf.select(OmegaConf.load(file), "modalities") for file in files}
    return {name: list(modalities or MODALITIES) for name, modalities in needs.items()}
