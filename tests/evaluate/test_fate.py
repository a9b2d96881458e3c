"""The protocol of fates: its rows against values that are known exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from perturbrl import paths, records, registry
from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.envs.fate.environment import FateEnv
from perturbrl.evaluate.fate.config import FateProtocolConfig
from perturbrl.evaluate.fate.episodes import run_episodes
from perturbrl.evaluate.fate.protocol import pair_table, stage_table
from perturbrl.evaluate.fate.rows import FateRows, Row
from perturbrl.landscape.control.attractors import attractor_control
from perturbrl.landscape.networks import load
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.progress import Progress
from perturbrl.runner.train import train_jobs

ROWS = {"policy", "optimum", "greedy", "one_step_best", "random", "do_nothing"}


def env(**overrides: Any) -> FateEnvConfig:
    bound: FateEnvConfig = registry.envs.bind(OmegaConf.merge(registry.envs.defaults("fate"), overrides))
    return bound


def protocol(**overrides: Any) -> FateProtocolConfig:
    node = OmegaConf.load(paths.conf_dir() / "protocol" / "fate.yaml")
    bound: FateProtocolConfig = registry.protocols.bind(OmegaConf.merge(node, overrides))
    return bound


def done(rows: FateRows) -> Any:
    return lambda obs: torch.full(obs.shape[:1], rows.tasks[0].done)


@pytest.fixture(scope="module")
def rows() -> FateRows:
    return FateRows(env(bonus=-1.0, cost=0.0, reward=0.0, max_perturb=2, n_decisions=20), protocol(simulations=40))


def test_the_optimum_takes_as_many_decisions_as_the_exact_control(rows: FateRows) -> None:
    optimum = rows.of(None)["optimum"].numbers
    exact = attractor_control(load("myeloid"), 2).mean_steps
    # 1 200 episodes; most end after one decision, the lengths have a standard deviation of about a half
    assert optimum["control_length"] == pytest.approx(exact, abs=4 * 0.6 / np.sqrt(1200))
    assert optimum["regret"] == 0.0 and optimum["success_rate"] == 1.0


def test_a_policy_that_does_nothing_is_the_row_that_does_nothing(rows: FateRows) -> None:
    made = rows.of(done(rows))
    assert made.keys() == ROWS
    assert made["policy"].numbers == made["do_nothing"].numbers
    assert made["policy"].numbers["control_length"] == 20 and made["policy"].numbers["success_rate"] == 0.0


def test_no_row_is_better_than_the_optimum_by_more_than_its_error(rows: FateRows) -> None:
    for name, row in rows.of(None).items():
        assert name == "policy" or row.numbers["regret"] >= -4 * row.numbers["regret_se"]


def test_rewards_of_shaping_are_no_part_of_a_score() -> None:
    plain, shaped = (
        FateRows(env(shaping=shaping, n_decisions=2), protocol(simulations=1)) for shaping in ("none", "tempting")
    )
    assert plain.of(None)["greedy"].numbers == shaped.of(None)["greedy"].numbers


def test_stages_are_passed_in_order_and_stay_passed() -> None:
    config = env(
        **{"start": "progenitor", "target": "erythrocyte", "stages": ["megakaryocyte-erythroid progenitor"]},
        **{"between": "updates", "n_updates": 20, "n_decisions": 6, "max_perturb": 1},
    )
    made = FateRows(config, protocol()).of(None)
    for name in ROWS - {"policy"}:
        shares = made[name].by_stage
        assert shares.shape == (7, 2) and (np.diff(shares, axis=0) >= 0).all() and (shares[:, 0] >= shares[:, 1]).all()
        assert shares[-1, 1] == pytest.approx(made[name].numbers["success_rate"])
    assert made["optimum"].by_stage[-1, 0] > made["do_nothing"].by_stage[-1, 0]


def test_the_table_by_stage_has_a_line_for_each_row_decision_and_goal() -> None:
    frame = stage_table({"policy": Row({}, np.array([[0.0, 0.0], [1.0, 0.5]]))}, ["stage", "target"])
    assert frame.to_dict("list") == {
        "row": ["policy"] * 4,
        "decision": [0, 0, 1, 1],
        "pseudotime": [0.0, 0.0, 1.0, 1.0],
        "goal": ["stage", "target"] * 2,
        "share": [0.0, 0.0, 1.0, 0.5],
    }


def test_the_numbers_of_a_row_are_means_over_pairs(rows: FateRows) -> None:
    made = rows.of(None)
    frame = pair_table(made, rows.tasks)
    assert len(frame) == len(made) * len(rows.tasks) and frame["source"].nunique() == 6
    lengths = frame[frame["row"] == "optimum"]["control_length"]
    assert lengths.mean() == pytest.approx(made["optimum"].numbers["control_length"]) and lengths.nunique() > 2


def test_few_episodes_are_of_tasks_far_apart() -> None:
    made: FateEnv = registry.envs["fate"].build([env(n_decisions=1)], None, None, 5, "cpu")
    episodes = run_episodes(lambda obs: torch.full(obs.shape[:2], 11), made, 0, 10)
    assert episodes.task.tolist() == [0, 6, 12, 18, 24]
    assert episodes.by_task(episodes.length).tolist() == [1.0]


def test_a_network_too_large_for_the_exact_solver_has_the_other_rows() -> None:
    made = FateRows(env(n_decisions=2), protocol(exact_genes=10, simulations=1)).of(None)
    assert made.keys() == ROWS - {"optimum", "one_step_best"}
    assert np.isnan(made["greedy"].numbers["regret"])


def test_the_optimum_of_the_toggle_in_closed_form() -> None:
    # One flip succeeds with probability 1/2 and costs 1/4: V_t = -1/4 + 1/2 + V_(t-1) / 2, V_0 = 0.
    config = env(network="toggle", max_perturb=1, n_decisions=3, bonus=0.0, cost=0.25)
    numbers = FateRows(config, protocol(simulations=4000)).of(None)["optimum"].numbers
    assert numbers["return"] == pytest.approx(0.25 + 0.125 + 0.0625, abs=4 * 0.5 / np.sqrt(8000))
    assert numbers["success_rate"] == pytest.approx(7 / 8, abs=4 * np.sqrt(7 / 64 / 8000))


@pytest.mark.slow
@pytest.mark.parametrize("agent", [("agent=ppo", "agent.ent_coef=0.02"), ("agent=trpo",)], ids=["ppo", "trpo"])
def test_an_agent_solves_the_toggle(agent: tuple[str, ...], tmp_path: Path) -> None:
    # Both genes at once switch it surely. One gene and then "done" is a local optimum, where PPO without an entropy
    # bonus may stay.
    task = ("env=fate", "env.network=toggle", "env.cost=0.1", "env.bonus=-0.2", "protocol.simulations=100")
    sizes = ("schedule.total=40960", "agent.rollout_steps=1024", "agent.lr=1e-3", "curve_points=0", "device=cpu")
    job = compose_job([*task, *agent, *sizes], tmp_path, "toggle")
    train_jobs([job], Progress("quiet"))
    Evaluator().evaluate(job.path)
    rows = records.read_json(job.path / paths.EVALUATION / paths.SUMMARY)["rows"]
    assert rows["policy"]["success_rate"] == 1.0 and rows["policy"]["control_length"] == 1.0
    assert rows["policy"]["regret"] == pytest.approx(0.0, abs=1e-6)
    assert rows["random"]["regret"] > 0.1
