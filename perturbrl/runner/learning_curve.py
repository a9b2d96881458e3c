"""Scores along training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from perturbrl import registry, status
from perturbrl.agents.common.learner import Learner
from perturbrl.envs.factory import Table
from perturbrl.evaluate.scoring import Curve, Scoring, scored
from perturbrl.runner.job import Job


class LearningCurve:
    """Scores of the deterministic policies by the run's protocol, at points spaced evenly in log steps."""

    def __init__(self, jobs: Sequence[Job], table: Table, learner: Learner, device: torch.device) -> None:
        config = jobs[0].config
        last, points = learner.n_iterations, config.curve_points
        self.points = {round(p) for p in np.geomspace(1, last, points)} | {last} if points else set()
        self._learner, self._n_runs = learner, len(jobs)
        if self.points:
            scoring: Scoring = registry.protocols[config.protocol.name].build(config.protocol)
            self._curve: Curve = scoring.curve([job.config.env for job in jobs], table, device)

    @torch.no_grad()
    def at(self, iteration: int) -> dict[str, Tensor]:
        """Return ``eval/...`` after ``iteration`` rollouts, each [S]; NaN between the points."""
        if not self.points:
            return {}
        if iteration not in self.points:
            missing = torch.full((self._n_runs,), torch.nan)
            return {f"eval/{name}": missing for name in self._curve.names}
        with status.step("scoring the policies so far"):
            return {f"eval/{name}": value for name, value in self._curve.at(scored(self._learner.model)).items()}
