"""The schema of ``conf/data/*.yaml`` and the checks that need no cells."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl.config import choice, require
from perturbrl.data.schema import MODALITIES
from perturbrl.errors import one_of

PRESETS = ("strict", "released")
SELECTIONS = ("hvg", "mutual_information", "none")
PSEUDOTIMES = ("preset", "dpt", "row", "obs")


@dataclass(frozen=True)
class DataConfig:
    """Which modalities, and how they become features; the YAML says what each key means."""

    name: str
    modalities: list[str]
    preset: str
    target_sum: float | None
    log1p: bool
    tfidf_scale: float | None
    clr: bool
    select: str
    n_features: dict[str, int | None]
    scale: bool
    pseudotime: str
    root: str | None
    dpt_pcs: int
    dpt_neighbors: int
    dpt_components: int

    @property
    def pseudotime_kind(self) -> str:
        """``dpt``, ``row`` or ``obs``, with ``preset`` resolved."""
        if self.pseudotime != "preset":
            return self.pseudotime
        return "row" if self.preset == "released" else "dpt"


def check(config: DataConfig) -> None:
    """Refuse values that no source could make valid.

    Raises
    ------
    UserError
        Names the key, its value and the valid choices.
    """
    require(bool(config.modalities), "data.modalities", f"empty; list at least one of {one_of(MODALITIES)}")
    for name in (*config.modalities, *config.n_features):
        choice(name, MODALITIES, "data.modalities" if name in config.modalities else "data.n_features")
    doubled = len(set(config.modalities)) < len(config.modalities)
    require(not doubled, "data.modalities", f"{config.modalities} names a modality twice")
    choice(config.preset, PRESETS, "data.preset")
    choice(config.select, SELECTIONS, "data.select")
    choice(config.pseudotime, PSEUDOTIMES, "data.pseudotime")
    for key in ("target_sum", "tfidf_scale"):
        value = getattr(config, key)
        require(value is None or value > 0, f"data.{key}", f"{value} must be positive, or null to leave the step out")
    for name, count in config.n_features.items():
        require(count is None or count > 0, f"data.n_features.{name}", f"{count} must be positive, or null for all")
    for key in ("dpt_pcs", "dpt_neighbors", "dpt_components"):
        value = getattr(config, key)
        require(value > 0, f"data.{key}", f"{value} must be positive")
