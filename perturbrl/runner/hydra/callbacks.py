"""What perturbrl does at the start of every sweep, whatever starts its jobs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

SWEEP = "multirun.yaml"  # Hydra's record of a sweep, in the folder of all sweeps


class KeepSweeps(Callback):
    """Renames the record of another sweep before Hydra overwrites it, to ``multirun-<time of that sweep>.yaml``."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """See ``hydra.experimental.callback.Callback``."""
        file = Path(str(config.hydra.sweep.dir)) / SWEEP
        if not file.is_file() or file.read_text(encoding="utf-8") == OmegaConf.to_yaml(config):
            return
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(file.stat().st_mtime))
        place, count = file.with_stem(f"{file.stem}-{stamp}"), 1
        while place.exists():
            count += 1
            place = file.with_stem(f"{file.stem}-{stamp}-{count}")
        file.rename(place)
