"""Every agent x task x modality, found through the registries: trains, acts and resumes, or is refused in one line."""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.masked import PickGenes
from omegaconf import OmegaConf

from perturbrl import registry
from perturbrl.agents import kernels
from perturbrl.errors import UserError
from perturbrl.generators.cells import CellGenerator
from perturbrl.rng import Streams
from perturbrl.runner.build import build_learner
from perturbrl.runner.conf_tree import conf_dirs, groups
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.hydra.compose import compose_config
from perturbrl.runner.job import Job, make_job
from perturbrl.runner.progress import Progress
from perturbrl.runner.resuming import require_same, unbroken
from perturbrl.runner.schema import resolve
from perturbrl.runner.train import train_jobs

AGENTS = sorted(name for name in registry.agents if registry.agents[name].build.__module__.startswith("perturbrl."))
ENVS = sorted(name for name in registry.envs if registry.envs[name].build.__module__.startswith("perturbrl."))
MODALITIES = groups(conf_dirs())["data"]

IMPOSSIBLE = (
    *(("sac", env, "agent=sac|agent.sac|discrete") for env in ("paper_discrete", "fate", "gattaca")),
    ("lora", "*", r"agent\.pretrained"),
    *(("flow", env, "choose env=counterfactual") for env in ("paper", "paper_discrete", "fate", "gattaca")),
)
"""Agent, task (``*``: every one), and what the error says."""

SIZES = {
    **{"rollout_steps": 16, "n_envs": 4, "minibatch": 8, "epochs": 1, "critic_epochs": 1},
    **{"cg_iterations": 2, "group": 2, "learning_starts": 4, "buffer": 64},
}
"""So small that a combination takes a tenth of a second; of an agent's keys, at any depth, those that it has."""

CELLS = (
    *("source.n_cells=160", "source.n_target_genes=8", "source.n_peaks=10", "source.n_proteins=5", "threads=1"),
    *("schedule.total=64", "schedule.trpo=16", "schedule.ppo=16", "policy.hidden=[4]", "device=cpu"),
)
OF_TASK = {
    "counterfactual": ("conditions=landscape", "conditions.min_cells=2", "source.n_cells=400", "env.horizon=2"),
    **dict.fromkeys(("fate", "gattaca"), ("env.start=progenitor", "env.n_decisions=2", "env.max_perturb=2")),
}
OF_CELLS = ("encoder=none", "env.horizon=4")
WITHOUT_CELLS = {name for name in ENVS if hasattr(registry.envs[name].build, "table")}


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    config = compose_config(overrides)
    return resolve(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))


def shrunk(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    return {
        key: SIZES[key] if key in SIZES and isinstance(value, int) else shrunk(value) for key, value in node.items()
    }


def job(agent: str, env: str, modality: str) -> Job:
    sized = {o.partition("=")[0]: o for o in (*CELLS, *OF_TASK.get(env, OF_CELLS))}
    cells = composed(f"env={env}", f"data={modality}", *sized.values())
    chosen = composed(f"agent={agent}", *CELLS)
    raw = cells | {"agent": shrunk(chosen["agent"]), "policy": chosen["policy"]}
    return make_job(OmegaConf.create(raw), Path("run"))


def refusal(agent: str, env: str) -> str | None:
    return next((said for name, task, said in IMPOSSIBLE if name == agent and task in (env, "*")), None)


@pytest.fixture(autouse=True)
def torch_kernels() -> Any:
    kernels.configure("torch", "float32")
    yield


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("agent", AGENTS)
def test_a_combination_trains_acts_and_resumes_or_is_refused_in_one_line(
    agent: str, env: str, modality: str, tmp_path: Path
) -> None:
    if env in WITHOUT_CELLS and modality != MODALITIES[0]:
        pytest.skip("the task reads no cells")
    if said := refusal(agent, env):
        with pytest.raises(UserError, match=said) as stop:
            train_jobs([dataclasses.replace(job(agent, env, modality), path=tmp_path / "run")], Progress("quiet"))
        assert "\n" not in str(stop.value)
        return
    one = job(agent, env, modality)
    table = load_cells(one)

    def build() -> Any:
        return build_learner([one], table, torch.device("cpu"))

    states = unbroken(build, 2)
    learned = [key for key in states[0] if not key.startswith("collector/")]  # of random search what it tries next
    changed = any(not torch.equal(states[0][key], states[2][key]) for key in learned)
    assert len(states) == 3 and changed, "nothing was learned"
    assert all(bool(torch.isfinite(state["theta"]).all()) for state in states)
    require_same(build, states, {"agent": agent, "env": env}, [1])
    learner = build()
    if isinstance(learner.model, CellGenerator):
        return  # it does not act
    action, space = learner.model.act(learner.collector.obs), learner.collector.env.action_space
    if space.kind == "box":
        assert action.shape == (1, 4, space.size) and bool((action.abs() <= max(-space.low, space.high)).all())
    else:
        assert action.shape == (1, 4) and bool(((action >= 0) & (action < space.size)).all())


@pytest.mark.parametrize("agent", [name for name in AGENTS if refusal(name, "paper_discrete") is None])
def test_an_agent_takes_no_action_that_its_state_forbids(agent: str) -> None:
    config = job(agent, "paper_discrete", "rna").config
    env = PickGenes(1, 4)  # fails at such an action
    learner = registry.agents[agent].build([config.agent], [config.policy], env, env.slices, Streams([0]))
    for i in range(learner.n_iterations):
        learner.iterate(i)
    assert env.chosen.sum(-1).max() <= env.budget
    allowed = env.action_space.allowed(learner.collector.obs)
    assert allowed is not None and allowed.gather(-1, learner.model.act(learner.collector.obs).unsqueeze(-1)).all()


def test_there_is_something_to_combine() -> None:
    assert {"ppo", "trpo", "trpo_ppo"} <= set(AGENTS) and len(ENVS) >= 3 and {"rna", "atac", "joint"} <= set(MODALITIES)
    assert all(re.compile(said) and (task == "*" or task in ENVS) for _, task, said in IMPOSSIBLE)
