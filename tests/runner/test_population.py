"""Which jobs are trained together, and that this changes no result."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perturbrl import registry
from perturbrl.bounds import per_run_keys
from perturbrl.runner.grouping import group
from perturbrl.runner.job import Job
from perturbrl.runner.outcome import failed
from perturbrl.runner.processes import specs, train_group

from . import conf_keys
from .tiny import assert_same_run, checkpoint, job, status, train, variant

# keys that shape the computation, or that runs of one population share
FIXED = {
    "agent.rollout_steps": "512",
    "agent.n_envs": "16",
    "agent.epochs": "3",
    "agent.minibatch": "32",
    "agent.normalise_advantage": "false",
    "agent.total_steps": "512",
    "agent.target_kl": "0.1",
    "agent.clone_steps": "256",
    "agent.clone_lr": "0.01",
    "env.horizon": "10",
    "policy.hidden": "[8]",
    "policy.log_std": "-1.0",
    "split.seed": "1",
    "encoder.components": "5",
    "source.n_cells": "200",
    "protocol.seed": "3",
    "threads": "2",
    "kernels": "torch",
    "precision": "bf16",
    "checkpoint_seconds": "5",
    "curve_points": "2",
}
SHORT = ("schedule.total=256", "schedule.trpo=256", "schedule.ppo=256", "curve_points=0", "checkpoint_seconds=99")


def free(agent: str, env: str = "paper") -> dict[str, str]:
    """Every key that is declared to be of each run, with the other value that the table of keys has for it."""
    found = {"seed": "5"}
    for key in per_run_keys(registry.agents[agent].schema):
        stage, _, leaf = key.rpartition(".")
        found[f"agent.{key}"] = str(conf_keys.AGENT[stage or agent][leaf].value)
    for key in per_run_keys(registry.envs[env].schema):
        found[f"env.{key}"] = str(conf_keys.ENV[env][key].value)
    return found


def together(jobs: list[Job]) -> bool:
    return len({j.signature for j in jobs}) == 1


def test_what_may_differ_is_what_the_fields_declare() -> None:
    paper = {"step_size", "clip", "perturb_prob", "max_perturb", "time_limit"}
    ppo = {"lr", "gamma", "gae_lambda", "clip", "vf_coef", "ent_coef", "max_grad_norm"}
    trpo = {"lr", "gamma", "gae_lambda", "target_kl", "damping", "line_search_shrink"}
    assert free("ppo").keys() == {"seed", *(f"env.{k}" for k in paper), *(f"agent.{k}" for k in ppo)}
    both = {*(f"agent.trpo.{k}" for k in trpo), *(f"agent.ppo.{k}" for k in ppo)}
    assert {key for key in free("trpo_ppo") if key.startswith("agent")} == both
    gene = {"env.reward_gene", "env.reward_gene_weight"}
    assert free("trpo", "paper_discrete").keys() - free("trpo").keys() == gene


@pytest.mark.parametrize(
    ("agent", "env"),
    [
        *(("ppo", "paper"), ("trpo", "paper")),
        pytest.param("trpo_ppo", "paper", marks=pytest.mark.slow),
        pytest.param("ppo", "paper_discrete", marks=pytest.mark.slow),
    ],
)
def test_a_free_key_may_differ_and_changes_that_run_alone(agent: str, env: str, tmp_path: Path) -> None:
    """One population in which every run differs from the first in one key; each is then trained alone."""
    wide = () if agent == "ppo" else ("agent.target_kl=5.0",) if agent == "trpo" else ("agent.trpo.target_kl=5.0",)
    first = job(tmp_path, agent, *SHORT, *wide, f"env={env}")  # steps so long that the line search has something to do
    settings = [f"{key}={value}" for key, value in free(agent, env).items()]

    def jobs(out: Path) -> list[Job]:
        return [variant(first, out / f"run{k}", *each) for k, each in enumerate([[], *([s] for s in settings)])]

    mine, alone = jobs(tmp_path / "mine"), jobs(tmp_path / "alone")
    assert together(mine)
    assert [len(g) for g in group(mine, 1, 99)] == [len(mine)]
    assert {o.status for o in train(*mine)} == {"complete"}
    for one in alone:
        train(one)
    for m, a in zip(mine, alone, strict=True):
        assert_same_run(m.path, a.path)
    base = checkpoint(mine[0].path)[0]["theta"]
    same = [s for s, m in zip(settings, mine[1:], strict=True) if checkpoint(m.path)[0]["theta"].equal(base)]
    assert not same, f"these keys change nothing: {same}"


@pytest.mark.parametrize("key", FIXED)
def test_a_key_with_a_shape_keeps_runs_apart(key: str, tmp_path: Path) -> None:
    one = job(tmp_path)
    other = variant(one, tmp_path, f"{key}={FIXED[key]}")
    assert not together([one, other])
    assert [len(g) for g in group([one, other], 1, 99)] == [1, 1]


def test_groups_are_cut_to_size_and_spread_over_workers(tmp_path: Path) -> None:
    jobs = [variant(job(tmp_path), tmp_path / str(k), f"seed={k}") for k in range(5)]
    jobs.append(job(tmp_path, "trpo", "schedule.total=9999"))
    sizes = {(w, n): sorted(len(g) for g in group(jobs, w, n)) for w in (1, 2, 4) for n in (2, 99)}
    assert sizes[1, 99] == [1, 5]
    assert sizes[1, 2] == [1, 1, 2, 2]
    assert sizes[2, 99] == [1, 5]
    assert sizes[4, 99] == [1, 2, 3]
    for workers, limit in sizes:
        groups = group(jobs, workers, limit)
        assert sorted(j.path for g in groups for j in g) == sorted(j.path for j in jobs)
        assert all(together(g) for g in groups)
    assert group([], 2, 5) == []


def test_the_longest_group_comes_first(tmp_path: Path) -> None:
    jobs = [job(tmp_path), job(tmp_path, "trpo", "schedule.total=9999"), job(tmp_path, "trpo_ppo", "seed=1")]
    assert [g[0].config.agent.name for g in group(jobs, 1, 99)] == ["trpo", "trpo_ppo", "ppo"]


def test_a_group_that_fails_as_a_whole_is_tried_run_by_run(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "ppo", f"seed={k}") for k in range(3)]
    jobs[1].path.mkdir(parents=True)
    (jobs[1].path / "run.json").write_text('{"config_hash": "of another"}')
    (spec,) = specs([jobs])
    outcomes = train_group(spec, "quiet")
    assert [o.status for o in outcomes] == ["complete", "failed", "complete"]
    assert "another config" in outcomes[1].message and str(jobs[1].path) in outcomes[1].message


def test_a_bug_is_told_with_its_place() -> None:
    try:
        raise ZeroDivisionError("deep inside")
    except ZeroDivisionError as error:
        said = failed(Path("run"), error)
    assert said.status == "failed"
    assert said.message.startswith("internal error: ZeroDivisionError: deep inside (test_population.py:")


def test_numbers_of_a_plugin_agent_are_not_taken_to_be_free(tmp_path: Path, monkeypatch) -> None:
    """Who writes an agent in ten lines reads ``configs[0].lr``; only the built-in ones are known to read all."""
    entry = registry.agents["ppo"]

    def build(configs, *rest):
        return entry.build([configs[0]] * len(configs), *rest)

    build.__module__ = "perturbrl_plugin_mine"
    monkeypatch.setitem(sys.modules, "perturbrl_plugin_mine", sys.modules[__name__])
    monkeypatch.setitem(registry.agents._entries, "ppo", registry.Entry("ppo", entry.schema, build))
    jobs = [job(tmp_path), job(tmp_path, "ppo", "agent.lr=3e-3"), job(tmp_path, "ppo", "seed=1")]
    assert [len(g) for g in group(jobs, 1, 99)] == [2, 1]


def test_numbers_of_a_plugin_env_are_not_taken_to_be_free(tmp_path: Path, monkeypatch) -> None:
    entry = registry.envs["paper"]

    def build(configs, *rest):
        return entry.build([configs[0]] * len(configs), *rest)

    build.__module__ = "perturbrl_plugin_mine"
    monkeypatch.setitem(registry.envs._entries, "paper", registry.Entry("paper", entry.schema, build))
    jobs = [job(tmp_path), job(tmp_path, "ppo", "env.clip=2"), job(tmp_path, "ppo", "seed=1")]
    assert [len(g) for g in group(jobs, 1, 99)] == [2, 1]


def test_statuses_of_a_group_are_in_the_order_of_its_jobs(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "ppo", f"seed={k}") for k in (2, 0, 1)]
    train(jobs[1])
    outcomes = train(*jobs)
    assert [o.path for o in outcomes] == [j.path for j in jobs]
    assert [o.status for o in outcomes] == ["complete", "skipped", "complete"]
    assert all(status(j.path) == "complete" for j in jobs)


@pytest.mark.parametrize("agent", ["ppo", "trpo"])
def test_what_is_logged_is_that_of_the_run_alone_too(agent: str, tmp_path: Path) -> None:
    """Means over many minibatches, which a sum in another order would change in the last digit."""
    base = job(tmp_path, agent, *SHORT, "agent.minibatch=8")
    mine = [variant(base, tmp_path / f"mine{k}", f"seed={k}") for k in range(3)]
    train(*mine)
    for k, one in enumerate(mine):
        alone = variant(base, tmp_path / f"alone{k}", f"seed={k}")
        train(alone)
        assert_same_run(one.path, alone.path)
