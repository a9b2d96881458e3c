"""Names of files and folders: the configs, the cache and the contents of a run directory."""

from __future__ import annotations

import os
from pathlib import Path

CONFIG = "config.yaml"
RUN = "run.json"
PROGRESS = "progress.parquet"
CHECKPOINT = "checkpoint.safetensors"
EVALUATION = "evaluation"
SUMMARY = "summary.json"
PER_FEATURE = "per_feature.parquet"
STAGES = "stages.parquet"
PAIRS = "pairs.parquet"
DIGESTS = "digests.json"
LOCK = ".lock"


def conf_dir() -> Path:
    """Return the absolute folder of the YAML configs: inside the wheel, or at the repository root."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def cache_dir() -> Path:
    """Return the folder for downloads and simulated data; the variable ``PERTURBRL_CACHE`` changes it."""
    if folder := os.environ.get("PERTURBRL_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "perturbrl"


def plugin_dirs() -> list[Path]:
    """Return the folders in the variable ``PERTURBRL_PLUGINS``, separated as in ``PATH``."""
    folders = os.environ.get("PERTURBRL_PLUGINS", "").split(os.pathsep)
    return [Path(os.path.realpath(Path(d).expanduser())) for d in folders if d]
