"""``protocol=counterfactual``: what a policy says of held-out perturbations, beside baselines and oracles.

Validation conditions make the learning curves; test cells are read by ``perturbrl evaluate`` alone. Letters: S runs,
n conditions, G genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from perturbrl import registry, status
from perturbrl.bounds import Episodes, Fraction, NonNegativeInt, NotEmpty, Number, NumberOrAll, OneOf, PositiveInt, Seed
from perturbrl.config import require
from perturbrl.data.split import SplitConfig
from perturbrl.effects.baselines import BASELINES, Setting
from perturbrl.effects.observed import effects_of
from perturbrl.envs.counterfactual.task import CounterfactualEnv, CounterfactualEnvConfig
from perturbrl.evaluate.actions import Act, PopulationAct
from perturbrl.evaluate.counterfactual import (
    ObservedEffects,
    Prediction,
    ScoreConfig,
    observe_effects,
    predict,
    read_predictions,
)
from perturbrl.evaluate.counterfactual.files import write
from perturbrl.evaluate.counterfactual.profiles import ProfileMetrics
from perturbrl.evaluate.counterfactual.returns import Earned, earned
from perturbrl.evaluate.counterfactual.rollout import Rolled, rolled
from perturbrl.evaluate.counterfactual.simulator import known_changes
from perturbrl.evaluate.scoring import Simulated
from perturbrl.metrics_info import HEADLINE, SIMULATOR
from perturbrl.screens.schema import PerturbationTable

CURVE_EPISODES = 64
PER_RUN = "random"  # the one baseline that depends on the policy: it takes actions as large


@dataclass(frozen=True)
class ClaimsConfig:
    """What the report may claim, declared before the runs."""

    metric: Annotated[str, OneOf(*HEADLINE)]
    agents: Annotated[list[str], NotEmpty("[ppo]")]
    alpha: Fraction


@dataclass(frozen=True)
class CounterfactualProtocolConfig:
    """``n_cells``: a number, or ``all`` or null for every control cell. See conf/protocol/counterfactual.yaml."""

    name: str
    n_cells: Annotated[int | str | None, NumberOrAll(1)]
    curve_cells: PositiveInt
    episodes: Episodes
    success: Annotated[float, Number(above=0, most=1)]
    shown: NonNegativeInt
    truth_cells: NonNegativeInt
    export: bool
    seed: Seed
    claims: ClaimsConfig
    score: ScoreConfig

    @property
    def most_cells(self) -> int | None:
        """The number of control cells; None: all."""
        return self.n_cells if isinstance(self.n_cells, int) else None


@dataclass(frozen=True)
class Shared:
    """What runs on the same split have in common: the truth, and the predictions that need no policy."""

    truth: ObservedEffects
    predictions: dict[str, Prediction]


class ValidationCurve:
    """Scores on validation conditions and control cells; none where the split leaves no validation conditions."""

    def __init__(
        self,
        config: CounterfactualProtocolConfig,
        env_configs: Sequence[Any],
        table: PerturbationTable,
        device: torch.device,
    ) -> None:
        self._config, self._table, self._n_runs = config, table, len(env_configs)
        split = table.split
        self.names: Sequence[str] = ()
        if not len(split.validation):
            return
        self.names = ("pds_cosine", "pearson_delta_pert", "mse", "mean_abs_action", "return")
        build = registry.envs[env_configs[0].name].build
        cells = CURVE_EPISODES + -CURVE_EPISODES % env_configs[0].mates
        self._env: CounterfactualEnv = build(env_configs, table, split.control_validation, cells, device)
        self._truth = effects_of(table, config.score, split.validation, split.control_validation, "validation")
        self._metrics = ProfileMetrics(self._truth)

    def at(self, act: PopulationAct) -> dict[str, Tensor]:
        """Return each of ``names``, [S]: means over validation conditions, an undefined value counted as its worst."""
        if not self.names:
            return {}
        config, split = self._config, self._table.split
        asked = self._truth.conditions
        found = rolled(
            act, self._n_runs, self._env.dynamics, self._table, split.control_validation, asked, config.curve_cells
        )
        scores = [self._metrics.scores(np.nan_to_num(change)) for change in found.change]
        means = {name: np.array([np.nan_to_num(s[name]).mean() for s in scores]) for name in self.names[:3]}
        means |= {"mean_abs_action": found.mean_abs_action}
        out = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in means.items()}
        return out | {"return": earned(act, self._env, config.seed).returns.mean(1).float().cpu()}


class CounterfactualScoring:
    """Headline, comparability and RL columns for a policy, thirteen baselines and two oracles."""

    def __init__(self, config: CounterfactualProtocolConfig) -> None:
        self.config = config

    def check(self, env_config: Any, split_config: Any) -> None:
        """Raise ``UserError`` for a task or a split that holds out no perturbations."""
        fits = isinstance(env_config, CounterfactualEnvConfig)
        require(
            fits, "protocol=counterfactual", f"env={env_config.name} predicts no perturbation; choose protocol=paper"
        )
        if isinstance(split_config, SplitConfig):
            said = "holds out cells, not perturbations"
            require(False, f"split={split_config.kind}", f"{said}; choose split=unseen_single")

    def curve(self, env_configs: Sequence[Any], table: PerturbationTable, device: torch.device) -> ValidationCurve:
        """Return the learning curve of S runs."""
        return ValidationCurve(self.config, env_configs, table, device)

    def shared(self, table: PerturbationTable, env_config: Any, simulated: Simulated | None) -> Shared:
        """Fit every baseline and ask it for the test conditions; add what is known where the cells were simulated."""
        with status.step("observed effects of the test conditions"):
            truth = observe_effects(table, self.config.score)
        setting = Setting(seed=self.config.seed, action_rms=0.0)
        names = [name for name in BASELINES if name != PER_RUN]
        found = {}
        for name in names:
            with status.step(f"baseline {name}"):
                found[name] = predict(BASELINES[name](setting), truth)
        if simulated is not None and self.config.truth_cells:
            found[SIMULATOR] = known_changes(simulated(self.config.truth_cells), truth)
        return Shared(truth, found)

    def evaluate(
        self,
        policy: Act | None,
        table: PerturbationTable,
        env_config: Any,
        run: dict[str, Any],
        out_dir: Path,
        shared: Shared,
        predictions: Path | None,
    ) -> None:
        """Write ``summary.json``, ``per_perturbation.parquet``, ``changes.parquet``, and the export if asked for."""
        truth, config = shared.truth, self.config
        rows: dict[str, Prediction] = {}
        found: tuple[Rolled, Earned] | None = None
        size = truth.centre
        if policy is not None:
            found = self._play(policy, table, env_config, truth)
            rows["policy"] = Prediction(found[0].change[0])
            if np.isfinite(found[0].change).all():
                size = found[0].change[0]
        rms = float(np.sqrt(np.mean(size**2)))
        rows |= shared.predictions
        rows[PER_RUN] = predict(BASELINES[PER_RUN](Setting(seed=config.seed, action_rms=rms)), truth)
        if predictions is not None:
            rows[f"predictions:{predictions.stem}"] = read_predictions(predictions, truth)
        order = ["policy", *BASELINES, SIMULATOR, *(name for name in rows if name.startswith("predictions:"))]
        write(
            {name: rows[name] for name in order if name in rows},
            found,
            truth,
            config,
            run,
            out_dir,
        )

    def _play(
        self, policy: Act, table: PerturbationTable, env_config: Any, truth: ObservedEffects
    ) -> tuple[Rolled, Earned]:
        def act(obs: Tensor) -> Tensor:
            return torch.stack([policy(one) for one in obs])

        config, controls = self.config, table.split.control_test
        build = registry.envs[env_config.name].build
        cells = config.episodes + -config.episodes % env_config.mates
        env: CounterfactualEnv = build([env_config], table, controls, cells, "cpu")
        with status.step("policy: changes of the test conditions"):
            change = rolled(act, 1, env.dynamics, table, controls, truth.conditions, config.most_cells)
        with status.step("policy: returns"):
            return change, earned(act, env, config.seed)


@registry.protocols.register("counterfactual", CounterfactualProtocolConfig)
def build(config: CounterfactualProtocolConfig) -> CounterfactualScoring:
    """Return the protocol of held-out perturbations."""
    return CounterfactualScoring(config)
