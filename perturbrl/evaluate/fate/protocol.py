"""``protocol=fate`` as training and ``perturbrl evaluate`` use it. Letters: S runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from perturbrl import paths, registry
from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.envs.fate.environment import FateEnv
from perturbrl.errors import require
from perturbrl.evaluate.actions import Act, PopulationAct
from perturbrl.evaluate.fate.config import FateProtocolConfig
from perturbrl.evaluate.fate.episodes import n_episodes, run_episodes
from perturbrl.evaluate.fate.rows import FateRows, Row, unshaped
from perturbrl.evaluate.files import score_settings, write_evaluation
from perturbrl.evaluate.scoring import INFO, Simulated
from perturbrl.landscape.fate_task import FateTask

CURVE_EPISODES, MOST_OF_CURVE = 64, 128


class FateCurve:
    """Return, share of episodes that reach the target, and their length, along training."""

    names = ("return", "success_rate", "control_length", "n_perturbed")

    def __init__(self, config: FateProtocolConfig, env_configs: Sequence[FateEnvConfig], device: torch.device) -> None:
        self._config = config
        configs = [unshaped(c) for c in env_configs]
        build = registry.envs[configs[0].name].build
        one: FateEnv = build(configs[:1], None, None, 1, device)
        n = min(n_episodes(len(one.tasks), 1, CURVE_EPISODES), MOST_OF_CURVE)
        self._env: FateEnv = build(configs, None, None, n, device)

    def at(self, act: PopulationAct) -> dict[str, Tensor]:
        """Return each of ``names``, [S]."""
        made = run_episodes(act, self._env, self._config.seed, self._config.max_steps)
        values = (made.value, made.reached, made.length, made.n_perturbed)
        return {name: made.by_task(value) for name, value in zip(self.names, values, strict=True)}


class FateEvaluation:
    """Writes the evaluation of runs on one task."""

    def __init__(self, env_config: FateEnvConfig, config: FateProtocolConfig) -> None:
        self._rows, self._config = FateRows(env_config, config), config

    def evaluate(self, policy: Act | None, run: Mapping[str, Any], folder: Path, predictions: Path | None) -> None:
        """Write ``summary.json``, ``stages.parquet`` and ``pairs.parquet``."""
        require(predictions is None, "baseline=predictions", "needs env=counterfactual; this run has env=fate")
        rows, tasks = self._rows.of(policy), self._rows.tasks
        summary = {
            "protocol": self._config.name,
            "n_cells": self._rows.n_episodes,
            "n_tasks": len(tasks),
            "goals": [goal.name for goal in tasks[0].stages] + ["target"],
            "max_perturb": tasks[0].max_perturb,
            "n_decisions": tasks[0].n_decisions,
            "settings": score_settings(self._config),
            "diverged": [name for name, row in rows.items() if row.diverged],
            **{name: run[name] for name in INFO},
            "rows": {name: dict(row.numbers) for name, row in rows.items()},
        }
        tables = {paths.STAGES: stage_table(rows, summary["goals"]), paths.PAIRS: pair_table(rows, tasks)}
        write_evaluation(folder, summary, tables)


def stage_table(rows: Mapping[str, Row], goals: Sequence[str]) -> pd.DataFrame:
    """Return one line for each row, decision and goal: ``pseudotime`` in [0, 1], and the ``share`` that passed it."""
    lines = [
        (name, t, t / (len(row.by_stage) - 1), goal, float(share))
        for name, row in rows.items()
        for t, shares in enumerate(row.by_stage)
        for goal, share in zip(goals, shares, strict=True)
    ]
    return pd.DataFrame(lines, columns=["row", "decision", "pseudotime", "goal", "share"])


def pair_table(rows: Mapping[str, Row], tasks: Sequence[FateTask]) -> pd.DataFrame:
    """Return one line for each row and pair: ``source`` (genes that are on in a start state), ``target``, the means."""
    genes = tasks[0].network.genes
    first = [task.start[0].tolist() for task in tasks]
    sources = [" ".join(gene for gene, on in zip(genes, state, strict=True) if on) for state in first]
    targets = [task.target.name for task in tasks]
    blocks = [pd.DataFrame({"row": name, "source": sources, "target": targets, **r.pairs}) for name, r in rows.items()]
    return pd.concat(blocks, ignore_index=True)


class FateScoring:
    """``protocol=fate`` as a ``Scoring``."""

    def __init__(self, config: FateProtocolConfig) -> None:
        self.config = config

    def check(self, env_config: Any, split_config: Any) -> None:
        """Raise ``UserError`` for a task that is not ``env=fate``."""
        fits = isinstance(env_config, FateEnvConfig)
        require(fits, f"env={env_config.name}", "protocol=fate scores env=fate only; leave protocol= out")

    def curve(self, env_configs: Sequence[Any], table: Any, device: torch.device) -> FateCurve:
        """Return the learning curve of S runs."""
        return FateCurve(self.config, env_configs, device)

    def evaluation(self, table: Any, env_config: Any, simulated: Simulated | None) -> FateEvaluation:
        """Return what scores runs on the task ``env_config``."""
        return FateEvaluation(env_config, self.config)


@registry.protocols.register("fate", FateProtocolConfig)
def build(config: FateProtocolConfig) -> FateScoring:
    """Return the protocol of fates."""
    return FateScoring(config)
