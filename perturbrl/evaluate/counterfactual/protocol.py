"""``protocol=counterfactual``: predictions of held-out perturbations by a policy, beside baselines and oracles.

Validation conditions make the learning curves; test cells are read by ``perturbrl evaluate`` alone. Letters: S runs,
B episodes, G genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perturbrl import registry, status
from perturbrl.config import require
from perturbrl.data.split import SplitConfig
from perturbrl.effects.baselines import BaselineContext, baseline_names, make_baseline
from perturbrl.effects.observed import ObservedEffects, effects_of, observe_effects
from perturbrl.envs.counterfactual.task import CounterfactualEnv, CounterfactualEnvConfig
from perturbrl.evaluate.actions import Act, PopulationAct, do_nothing, together
from perturbrl.evaluate.counterfactual.best_actions import best_changes
from perturbrl.evaluate.counterfactual.config import CounterfactualProtocolConfig
from perturbrl.evaluate.counterfactual.curve import ValidationCurve
from perturbrl.evaluate.counterfactual.emission import Emission
from perturbrl.evaluate.counterfactual.files import PolicyResult, RunScores
from perturbrl.evaluate.counterfactual.generated import GeneratedCells, fixed, shrinkage
from perturbrl.evaluate.counterfactual.metrics import score
from perturbrl.evaluate.counterfactual.prediction import Prediction, predict
from perturbrl.evaluate.counterfactual.predictions import read_predictions
from perturbrl.evaluate.counterfactual.returns import Earned, best_returns, policy_returns
from perturbrl.evaluate.counterfactual.rollout import PredictedChanges, Rollouts
from perturbrl.evaluate.counterfactual.simulator import known_changes
from perturbrl.evaluate.counterfactual.values import ConditionValues
from perturbrl.evaluate.scoring import Simulated
from perturbrl.generators.cells import CellGenerator
from perturbrl.metrics_info import BEST_ACTIONS, SIMULATOR
from perturbrl.screens.schema import PerturbationTable

PER_RUN = "random"  # the one baseline that depends on the policy: it takes actions as large


class CounterfactualEvaluation:
    """Scores runs on the same test conditions; the truth and the predictions that need no policy are made once."""

    def __init__(
        self,
        table: PerturbationTable,
        env_config: Any,
        config: CounterfactualProtocolConfig,
        simulated: Simulated | None,
    ) -> None:
        self._table, self._env_config, self._config, self._simulated = table, env_config, config, simulated

    @cached_property
    def truth(self) -> ObservedEffects:
        """The observed test conditions."""
        with status.step("observed effects of the test conditions"):
            return observe_effects(self._table, self._config.score)

    @cached_property
    def values(self) -> ConditionValues:
        """Values of metrics for each test condition, kept for predictions that several runs have in common."""
        return ConditionValues(self.truth)

    @cached_property
    def predictions(self) -> Mapping[str, Prediction]:
        """Those that need no policy: of baselines, of the best allowed actions, and of the simulator if any."""
        context = BaselineContext(seed=self._config.seed, action_rms=0.0)
        predictions = {}
        for name in baseline_names():
            if name != PER_RUN:
                with status.step(f"baseline {name}"):
                    predictions[name] = predict(make_baseline(name, context), self.truth)
        predictions[BEST_ACTIONS] = Prediction(self.actors[BEST_ACTIONS].change)
        if self._simulated is not None and self._config.truth_cells:
            predictions[SIMULATOR] = known_changes(self._simulated(self._config.truth_cells), self.truth)
        return predictions

    def evaluate(
        self, policy: Act | CellGenerator | None, run: Mapping[str, Any], folder: Path, predictions: Path | None
    ) -> None:
        """Write ``summary.json``, ``per_perturbation.parquet``, ``changes.parquet``, and the export if asked for."""
        config, truth = self._config, self.truth
        rows = dict(self.predictions)
        result = None if policy is None else self._result(policy)
        size = truth.centre
        if result is not None:
            rows["policy"] = result.prediction
            if np.isfinite(result.change).all():
                size = result.change
        context = BaselineContext(seed=config.seed, action_rms=float(np.sqrt(np.mean(size**2))))
        rows[PER_RUN] = predict(make_baseline(PER_RUN, context), truth)
        if predictions is not None:
            rows[f"predictions:{predictions.stem}"] = read_predictions(predictions, truth)
        given = [name for name in rows if name.startswith("predictions:")]
        order = ["policy", *baseline_names(), BEST_ACTIONS, SIMULATOR, *given]
        rows = {name: rows[name] for name in order if name in rows}
        RunScores(score(truth, rows, self.values), rows, result, self.actors, config, run).write(folder)

    @cached_property
    def actors(self) -> Mapping[str, PolicyResult]:
        """What the best allowed actions predict and earn, and so the baseline that episodes begin with, if any."""
        seed, (test, train), residual = self._config.seed, self._envs, self._env_config.residual
        with status.step("best allowed actions"):
            changes = best_changes(test, self.truth.conditions)
            actors = {BEST_ACTIONS: PolicyResult(changes, Earned(best_returns(test, seed), best_returns(train, seed)))}
        if residual != "none":
            still = PredictedChanges(test.dynamics.residual[None, self.truth.conditions], np.zeros(1))
            actors[residual] = PolicyResult(still, self._earned(do_nothing(test.action_space)))
        return actors

    def _earned(self, act: PopulationAct) -> Earned:
        test, train = (policy_returns(act, env, self._config.seed) for env in self._envs)
        return Earned(test, train)

    @cached_property
    def _envs(self) -> tuple[CounterfactualEnv, CounterfactualEnv]:
        """The task on test conditions and on training conditions."""
        split, n = self._table.split, self._config.episodes
        n_envs = n + -n % self._env_config.mates
        build = registry.envs[self._env_config.name].build
        test, train = (
            build([self._env_config], self._table, controls, n_envs, "cpu")
            for controls in (split.control_test, split.control_train)
        )
        return test, train

    def _result(self, policy: Act | CellGenerator) -> PolicyResult:
        if isinstance(policy, CellGenerator):
            return self._generated(policy)
        act, table, (test, _) = together([policy]), self._table, self._envs
        with status.step("policy: changes of the test conditions"):
            controls, conditions = table.split.control_test, self.truth.conditions
            rollouts = Rollouts(test.dynamics, table, controls, conditions, self._config.most_cells)
            changes = rollouts.changes(act, 1)
        with status.step("policy: returns"):
            return PolicyResult(changes, self._earned(act))

    def _generated(self, generator: CellGenerator) -> PolicyResult:
        """Return what a generator predicts of the test conditions, from test controls."""
        (test, train), split, truth = self._envs, self._table.split, self.truth
        with status.step("generator: factor of its effects"):
            factor = self._factor(generator)
        made, seen = (
            GeneratedCells(generator, env, self._table, controls, self._config.seed, factor)
            for env, controls in ((test, split.control_test), (train, split.control_train))
        )
        with status.step("generator: changes of the test conditions"):
            changes = made.changes(truth.conditions, self._config.most_cells)
        emission, place = Emission(truth), {int(c): i for i, c in enumerate(truth.conditions)}
        with status.step("generator: returns"):
            earned = Earned(made.returns(), seen.returns())
        return PolicyResult(
            changes, earned, lambda c: made.cells(np.sort(emission.rows(place[c])), c), float(factor[0])
        )

    def _factor(self, generator: CellGenerator) -> torch.Tensor:
        """Return the factor of learned effects: that of the settings, or the best on validation conditions, if any."""
        table, split, config = self._table, self._table.split, self._config
        if generator.shrinkage is not None or not len(split.validation):
            return fixed(generator)
        truth = effects_of(table, config.score, split.validation, split.control_validation, "validation")
        build = registry.envs[self._env_config.name].build
        env = build([self._env_config], table, split.control_validation, self._env_config.mates, "cpu")
        made = GeneratedCells(generator, env, table, split.control_validation, config.seed)
        return shrinkage(made, truth, config.most_cells)


class CounterfactualScoring:
    """``protocol=counterfactual`` as a ``Scoring``: a policy beside baselines and oracles."""

    def __init__(self, config: CounterfactualProtocolConfig) -> None:
        self.config = config

    def check(self, env_config: Any, split_config: Any) -> None:
        """Raise ``UserError`` for a task or a split that holds out no perturbations."""
        fits = isinstance(env_config, CounterfactualEnvConfig)
        require(
            fits, "protocol=counterfactual", f"env={env_config.name} predicts no perturbation; choose protocol=paper"
        )
        require(
            not isinstance(split_config, SplitConfig),
            f"split={split_config.kind}",
            "holds out cells, not perturbations; choose split=unseen_single",
        )

    def curve(self, env_configs: Sequence[Any], table: PerturbationTable, device: torch.device) -> ValidationCurve:
        """Return the learning curve of S runs."""
        return ValidationCurve(self.config, env_configs, table, device)

    def evaluation(
        self, table: PerturbationTable, env_config: Any, simulated: Simulated | None
    ) -> CounterfactualEvaluation:
        """Return what scores runs on the test conditions of ``table``."""
        return CounterfactualEvaluation(table, env_config, self.config, simulated)


@registry.protocols.register("counterfactual", CounterfactualProtocolConfig)
def build(config: CounterfactualProtocolConfig) -> CounterfactualScoring:
    """Return the protocol of held-out perturbations."""
    return CounterfactualScoring(config)
