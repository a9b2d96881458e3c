"""The configs of conf/, with some keys replaced."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from perturbrl import paths, registry
from perturbrl.config import bind
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.sources.file import FileConfig
from perturbrl.evaluate.counterfactual import ScoreConfig
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.describe import DescriptionConfig
from perturbrl.screens.splits.builder import ScreenSplitConfig

SCORE = ScoreConfig(
    alpha=0.05,
    min_log_fold=0.25,
    min_cpm=5.0,
    n_top=50,
    n_components=20,
    max_cells=500,
    max_controls=1000,
    n_duplicates=2,
    seed=3,
)


@functools.cache  # composing takes a tenth of a second
def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(paths.conf_dir()), version_base=None):
        return compose(overrides=list(overrides))


def _changed(node: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """A group of conf/ with some keys replaced, to be bound: changed values are checked like any others."""
    return {**OmegaConf.to_container(node, resolve=True), **changes}


def data_config(choice: str = "rna", **changes: Any) -> DataConfig:
    return bind(DataConfig, _changed(composed(f"+data={choice}").data, changes), "data")


def file_config(path: str | Path | None, **changes: Any) -> FileConfig:
    node = OmegaConf.load(paths.conf_dir() / "source" / "file.yaml")
    node.path = None if path is None else str(path)  # in the file it stands for the key path= of a run
    return bind(FileConfig, _changed(node, changes), "source")


def conditions_config(choice: str = "auto", **changes: Any) -> ConditionsConfig:
    node = composed(f"+conditions={choice}").conditions
    return bind(ConditionsConfig, _changed(node, changes), "conditions")


def split_config(choice: str, **changes: Any) -> ScreenSplitConfig:
    config = registry.splits.bind(_changed(composed(f"+split={choice}").split, changes))
    assert isinstance(config, ScreenSplitConfig)
    return config


def description_config(**changes: Any) -> DescriptionConfig:
    node = composed("+description=default").description
    return bind(DescriptionConfig, _changed(node, changes), "description")
