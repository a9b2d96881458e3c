"""Run directories with the config, the hash and the labels of a command; their scores are FABRICATED."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fakes.runs import make_run
from perturbrl import paths
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.job import Job, save_config


def command(*overrides: str, configs: Path | None = None, name: str = "runs") -> Job:
    """Compose the job of ``perturbrl train --config-dir configs overrides``."""
    more = [f"hydra.searchpath=[file://{configs}]"] if configs else []
    return compose_job([*more, *overrides], Path("outputs"), name)


def write(job: Job, root: Path, folder: Path | None = None, **fabricated: Any) -> Path:
    """Write a run of the job below ``root``, in its own folder or in ``folder``; see ``make_run``."""
    config = job.config
    made = make_run(root / "draft", config.agent.name, config.data.name, config.seed, **fabricated)
    run = json.loads((made / paths.RUN).read_text())
    run |= {"config_hash": job.hash, "name": config.name, "source": config.source.name, "env": config.env.name}
    run |= {"schedule": config.schedule.name, "preset": config.data.preset, "policy": config.policy.net}
    run |= {"encoder": config.encoder.name, "labels": job.labels.to_json() if job.labels else None}
    (made / paths.RUN).write_text(json.dumps(run | (fabricated.get("said") or {})))
    target = root / (folder or job.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    made.rename(target)
    save_config(dataclasses.replace(job, path=target))
    return target
