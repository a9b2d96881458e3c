"""Labels of a run, from the choices and overrides of its command, and the path of its directory, from the labels."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from perturbrl.config import require
from perturbrl.run_dirs import DATA_GROUPS, NOT_IN_HASH, Label, Labels, stages_label

NOT_IN_LABELS = ("source", "source.path", "data", "env", "agent", "seed", "experiment")  # they have places of their own
EXAMPLES = {"source": "landscape", "data": "rna", "env": "paper", "agent": "ppo"}  # groups that a run's folder names
QUOTES = "\"'"


def run_labels(choices: Mapping[str, str], overrides: Sequence[str], name: str) -> Labels:
    """Return the labels of a run; ``choices`` maps groups of the config to what was chosen.

    Overridden values join the part they belong to: ``env.max_perturb=4`` turns ``paper`` into ``paper,max_perturb=4``,
    so that a sweep over any key gives each job a folder of its own. A file stands under its own name.

    Raises
    ------
    UserError
        A group names no choice.
    """
    for group, usual in EXAMPLES.items():
        require(group in choices, group, f"must name one choice, such as {group}={usual}")
    changed: dict[str, list[str]] = {"data": [], "env": [], "agent": []}
    for override in sorted(overrides):
        key, _, value = override.lstrip("+~").partition("=")
        if not key.startswith("hydra"):  # agent/optimizer@agent.ppo.optimizer is agent.ppo.optimizer
            key = (key.partition("@")[2] or key).replace("/", ".")
        group = key.split(".")[0]
        if key in (*NOT_IN_LABELS, *NOT_IN_HASH) or group == "hydra":
            continue
        part = "env" if group in ("env", "protocol") else "data" if group in DATA_GROUPS else "agent"
        spelled = _stages(value) if key == "agent.stages" else _file_safe(value.strip(QUOTES))
        changed[part].append(f"{key.removeprefix(f'{part}.')}={spelled}")
    files = [value for key, _, value in (o.partition("=") for o in overrides) if key in ("path", "source.path")]
    source = Path(files[-1].strip(QUOTES)).stem if files and choices["source"] == "file" else choices["source"]
    cells = Label(f"{_file_safe(source)}-{choices['data']}", tuple(changed["data"]))
    return Labels(name, cells, *(Label(choices[part], tuple(changed[part])) for part in ("env", "agent")))


def run_path(labels: Labels, seed: int) -> Path:
    """Return ``<name>/<source>-<data>/<env>/<agent>/seed<k>``."""
    return Path(labels.name) / str(labels.cells) / str(labels.task) / str(labels.agent) / f"seed{seed}"


def _stages(value: str) -> str:
    r"""Return ``[trpo:10k,ppo:40k]`` as a label; a sweep of Hydra writes ``\:`` for a colon."""
    words = [word.strip(f" []{QUOTES}") for word in value.replace("\\", "").split(",")]
    return "".join(c if c.isalnum() or c in "._+-" else "_" for c in stages_label(words))


def _file_safe(value: str) -> str:
    with contextlib.suppress(ValueError):  # a sweep of Hydra spells 1e-4 as 0.0001
        value = value if value.lstrip("+-").isdigit() else repr(float(value))
    return "".join(c if c.isalnum() or c in "._+-" else "_" for c in value)
