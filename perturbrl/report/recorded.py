"""What a run was asked to do, as its files record it: all settings that can change its result or its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from perturbrl import paths
from perturbrl.config import fingerprint, without_added
from perturbrl.metrics_info import NOT_SCORES
from perturbrl.run_dirs import DATA_GROUPS, NOT_IN_HASH, Labels

Settings = Mapping[str, Any]
"""Full keys and their values: ``{"agent.lr": 1e-4}``."""

GROUPS = (*DATA_GROUPS, "env", "protocol", "agent", "policy", "schedule")
CHECKSUM = "data_checksum"
OPTIMIZER = "adam"  # of a run that records none
PREFIX = {"cells": "data", "task": "env", "agent": "agent"}  # of a key that a label names without its group
# settings of a protocol that a summary names otherwise
NAMED_OTHERWISE = ("n_cells", "clip", "discrete_step", "return_episodes", "episodes", "seed")
# of a summary of any version
SUMMARY_KEYS = ("n_cells", "n_control_cells", "clip", "discrete_step", "return_episodes", "evaluation_seed")
# settings of the paper's protocol that its ten metrics do not depend on
IRRELEVANT = ("protocol.name", "protocol.return_episodes", "protocol.search_episodes", "protocol.seed")
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Recorded:
    """The settings of one run, by what they make: cells, task, agent, and its evaluation (empty if there is none).

    The seed of the run and what cannot change a result are left out. ``released``: whether the task, and what the ten
    metrics depend on, are as the package ships them for Tables I-III.
    """

    cells: Settings = field(default_factory=dict)
    task: Settings = field(default_factory=dict)
    agent: Settings = field(default_factory=dict)
    evaluation: Settings = field(default_factory=dict)
    released: bool = False

    @property
    def all(self) -> dict[str, Any]:
        """All of them by full key, those of the evaluation below ``evaluation``."""
        return {**self.cells, **self.task, **self.agent, **flat({"evaluation": self.evaluation})}


def read(folder: Path, run: Mapping[str, Any], summary: Mapping[str, Any], labels: Labels) -> Recorded:
    """Return the settings of a run from ``config.yaml`` and the summary of its evaluation.

    Where there is no whole config, or it is not the one of ``config_hash``, the overrides of the ``labels`` take its
    place.
    """
    config = read_config(folder)
    if config is None or run.get("config_hash") not in (None, fingerprint(config, NOT_IN_HASH)):
        return _without_config(run, summary, labels)
    config = {group: without_added(group, node) for group, node in config.items()}  # as versions without the key
    cells = flat({group: config.get(group) for group in DATA_GROUPS if config.get(group) is not None})
    cells[CHECKSUM] = run.get(CHECKSUM)
    protocol = {k: v for k, v in config["protocol"].items() if k not in ("claims", "export")}
    task = flat({"env": config["env"], "protocol": protocol})
    left = {*DATA_GROUPS, *NOT_IN_HASH, "env", "protocol", "seed"}
    agent = flat({key: value for key, value in config.items() if key not in left})
    return Recorded(cells, task, agent, _evaluation(summary, protocol), _is_released(task))


def without_seeds(recorded: Sequence[Recorded], seeds: Sequence[int], held_out: bool) -> list[Recorded]:
    """Leave out seeds that follow the seed of the run (``split.seed=${seed}``), and what depends on them.

    Of runs on held-out perturbations the seed of the split is left out in any case: splits drawn anew are units of
    replication.
    """
    alike: dict[str, list[int]] = {}
    for k, one in enumerate(recorded):
        rest = [{key: v for key, v in part.items() if not _is_seed(key)} for part in (one.cells, one.task)]
        alike.setdefault(json.dumps(rest, sort_keys=True, default=str), []).append(k)
    out = list(recorded)
    for runs in alike.values():
        several = len({seeds[k] for k in runs}) > 1
        for part in ("cells", "task", "agent", "evaluation"):
            settings: dict[int, Settings] = {k: getattr(recorded[k], part) for k in runs}
            left_out = {"split.seed"} if held_out else set()
            for key in {key for one in settings.values() for key in one if several and key.endswith("seed")}:
                if all(settings[k].get(key) == seeds[k] for k in runs):
                    left_out |= {key, CHECKSUM} if key == "source.seed" else {key}
            for k in runs:
                left = {key: value for key, value in settings[k].items() if key not in left_out}
                out[k] = replace(out[k], **{part: left})  # type: ignore[arg-type]
    return out


def _is_seed(key: str) -> bool:
    return key.endswith("seed") or key == CHECKSUM


def flat(node: Any, above: str = "") -> dict[str, Any]:
    """Return nested groups as one mapping from full keys to values."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{above}{key}.")
        else:
            out[f"{above}{key}"] = value
    return out


def full_key(part: str, key: str) -> str:
    """Return the full key of an override in the label of a part: ``max_perturb`` of the task is ``env.max_perturb``."""
    group, _, rest = key.partition(".")
    if group in GROUPS:
        return key if rest else f"{key}.name"
    if part == "agent" and (key == "optimizer" or key.endswith(".optimizer")):
        return f"{PREFIX[part]}.{key}.name"
    return key if part == "agent" and not rest and key in ("precision", "curve_points") else f"{PREFIX[part]}.{key}"


def group_of(key: str) -> str:
    """Return the group of which a setting is part: ``agent``, but ``agent.optimizer`` of ``agent.optimizer.eps``."""
    above, _, _ = key.rpartition(".")
    return above if above.startswith("agent.") and above.endswith(".optimizer") else key.partition(".")[0]


def part_of(key: str) -> str:
    """Return which label names a setting: ``cells``, ``task`` or ``agent``."""
    group = key.partition(".")[0]
    return "cells" if group in (*DATA_GROUPS, CHECKSUM) else "task" if group in ("env", "protocol") else "agent"


def short_key(part: str, key: str) -> str:
    """Return how a label names a setting; the inverse of ``full_key``."""
    group, _, rest = key.partition(".")
    if group in GROUPS and rest in ("name", "kind"):
        return group
    if key.endswith(".optimizer.name"):
        key = key.removesuffix(".name")
    return key.removeprefix(f"{PREFIX[part]}.")


def overrides(labels: Labels) -> dict[str, dict[str, str]]:
    """Return the overrides that labels record: part -> full key -> value as it was written."""
    parts = {"cells": labels.cells, "task": labels.task, "agent": labels.agent}
    return {
        part: {full_key(part, k): v for k, _, v in (text.partition("=") for text in label.overrides)}
        for part, label in parts.items()
    }


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the config of a run; None where there is none, or not a whole one."""
    try:
        text = (folder / paths.CONFIG).read_text(encoding="utf-8")
        config = yaml.load(text, Loader=Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    groups = ("source", "data", "env", "agent", "protocol")
    whole = isinstance(config, dict) and all(isinstance(config.get(group), dict) for group in groups)
    return config if whole else None


def _without_config(run: Mapping[str, Any], summary: Mapping[str, Any], labels: Labels) -> Recorded:
    parts = overrides(labels)
    cells = {**parts["cells"], CHECKSUM: run.get(CHECKSUM)}
    released = not set(parts["task"]) - set(IRRELEVANT)
    return Recorded(cells, parts["task"], parts["agent"], _evaluation(summary, {}), released)


def _evaluation(summary: Mapping[str, Any], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings behind the scores; versions that did not record all had those of the config."""
    if not summary:
        return {}
    recorded = summary.get("settings")
    settings = dict(recorded) if isinstance(recorded, Mapping) else dict(protocol)
    baselines = settings.pop("baselines", None)
    known = {key: summary[key] for key in SUMMARY_KEYS if key in summary}
    more = flat({k: v for k, v in settings.items() if k not in (*NOT_SCORES, *NAMED_OTHERWISE)})
    if isinstance(baselines, Mapping):
        return known | more | {"baselines": "recorded"} | flat({"baselines": without_added("baseline", baselines)})
    return known | more | {"baselines": "not recorded"}


def _is_released(task: Settings) -> bool:
    shipped = _shipped()
    return all(key in shipped and shipped[key] == value for key, value in task.items() if key not in IRRELEVANT)


@cache
def _shipped() -> Settings:
    """Return the settings of ``env=paper protocol=paper``."""
    files = {group: paths.conf_dir() / group / "paper.yaml" for group in ("env", "protocol")}
    return flat({group: yaml.load(file.read_text(encoding="utf-8"), Loader=Loader) for group, file in files.items()})


def spelled(value: Any) -> str:
    """Return a value as labels and CSV files have it."""
    if value is None or isinstance(value, bool | list | dict):
        return json.dumps(value, separators=(",", ":"))
    return repr(value) if isinstance(value, float) else str(value)
