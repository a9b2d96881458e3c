"""An agent whose state is incomplete is found out, when a plugin first trains and by ``check_agent``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from perturbrl import paths, registry
from perturbrl.agents.common.build import agent as register
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.ppo import PPO, PPOConfig
from perturbrl.errors import UserError
from perturbrl.plugins import check_agent
from perturbrl.runner import resuming

from .tiny import job, train

SMALL = ("agent.rollout_steps=128", "agent.n_envs=8", "agent.minibatch=64", "agent.epochs=2", "kernels=torch")


class Whole(PPO):
    """PPO from outside, all right."""


class Forgetful(PPO):
    """Its moments are in no checkpoint."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.stateful = {}


class Counting(PPO):
    """Every second rollout is left out; the count is in no checkpoint."""

    seen = 0

    def update(self, batch: Rollout, iteration: int) -> Log:
        self.seen += 1
        before = self.model.theta.clone()
        log = super().update(batch, iteration)
        if self.seen % 2 == 0:
            self.model.theta.copy_(before)
        return log


class Drawing(PPO):
    """Draws from torch's own generator."""

    def update(self, batch: Rollout, iteration: int) -> Log:
        self.model.theta.add_(1e-3 * torch.randn_like(self.model.theta))
        return super().update(batch, iteration)


class Still(PPO):
    """Changes nothing."""

    def update(self, batch: Rollout, iteration: int) -> Log:
        before = self.model.theta.clone()
        log = super().update(batch, iteration)
        self.model.theta.copy_(before)
        return log


class Mixing(PPO):
    """Pulls the parameters of all runs to their mean."""

    def update(self, batch: Rollout, iteration: int) -> Log:
        log = super().update(batch, iteration)
        self.model.theta.lerp_(self.model.theta.mean(0, keepdim=True).expand_as(self.model.theta), 0.1)
        return log


class OneRow(PPO):
    """A tensor of its state has no axis of runs."""

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"weights": torch.zeros(7, 3)}


class Unloadable(PPO):
    """Loads what it never saved."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        super().load_state(state)
        state["nothing"].clone()


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Let ``agent=ppo`` be a class of this file, as a plugin would be; with a cache of its own."""
    registry.agents["ppo"]
    monkeypatch.setenv("PERTURBRL_CACHE", str(tmp_path / "cache"))

    def be(recipe: type[PPO]) -> None:
        monkeypatch.delitem(registry.agents._entries, "ppo")  # put back at the end
        register("ppo", PPOConfig)(recipe)

    return be


WRONG = [
    (Forgetful, r"differ from an unbroken one \(theta by [\d.e-]+ at rollout 2\); self.stateful must hold"),
    (Counting, r"differ from an unbroken one \(theta by "),
    (Drawing, r"differ from an unbroken one \(theta by .* self.streams give all random numbers"),
    (OneRow, r"state\(\): ppo/weights has the shape \(7, 3\); its first axis must be the 1 runs"),
    (Unloadable, r"the state of a checkpoint cannot be loaded \(KeyError: 'nothing'\)"),
]


@pytest.mark.parametrize(("recipe", "message"), WRONG)
def test_a_plugin_that_cannot_resume_is_refused_when_it_first_trains(
    recipe: type[PPO], message: str, plugin: Any, tmp_path: Path
) -> None:
    plugin(recipe)
    with pytest.raises(UserError, match=message) as refused:
        train(job(tmp_path, "ppo"))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob(paths.CHECKPOINT))


def test_a_plugin_is_tried_once_for_its_code_and_settings(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(Whole)
    tried = []
    monkeypatch.setattr(resuming, "unbroken", lambda *args, plain=resuming.unbroken: tried.append(1) or plain(*args))
    for overrides, count in ((("seed=0",), 1), (("seed=1",), 1), (("agent.epochs=3",), 2)):
        (done,) = train(job(tmp_path, "ppo", *overrides))
        assert done.status == "complete"
        assert len(tried) == count, overrides


def test_agents_of_the_package_are_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "unbroken", None)
    assert [done.status for done in train(job(tmp_path, "ppo"))] == ["complete"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        *WRONG,
        (Still, r"^agent=ppo: update changes no parameter"),
        (Mixing, r"^agent=ppo: a run trained together with another one differs from the same run alone \(theta by"),
    ],
)
def test_check_agent_names_what_is_wrong(recipe: type[PPO], message: str, plugin: Any) -> None:
    plugin(recipe)
    with pytest.raises(UserError, match=message) as refused:
        check_agent("ppo", *SMALL)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["ppo", "trpo", "trpo_ppo"])
def test_check_agent_passes_what_is_right(name: str) -> None:
    parts = ("trpo.", "ppo.") if name == "trpo_ppo" else ("",)
    check_agent(name, *(f"agent.{part}{key}" for part in parts for key in ("rollout_steps=128", "minibatch=64")))


def test_check_agent_knows_its_overrides() -> None:
    with pytest.raises(UserError, match=r"^agent: 'ppp' is not known \(did you mean 'ppo'\?\)"):
        check_agent("ppp")
    with pytest.raises(UserError, match="agent.speed"):
        check_agent("ppo", "agent.speed=1")
    check_agent("ppo", *SMALL, "encoder=none", "source.n_target_genes=12")


LAGGING = """
from dataclasses import dataclass
import torch
from perturbrl.plugins import PaperEnv, PaperEnvConfig, envs

class Lagging(PaperEnv):
    lag = 0.0

    def step(self, action, u):
        step = super().step(action + self.lag, u)
        self.lag = 0.9 * self.lag + 0.1 * action.mean()
        return step

@envs.register("lagging", PaperEnvConfig)
def build(configs, table, cells, n_envs, device):
    return Lagging(configs, table, cells, n_envs, device)
"""


def test_a_task_that_cannot_resume_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real command, with a folder of plugins."""
    (tmp_path / "conf" / "env").mkdir(parents=True)
    (tmp_path / "lagging.py").write_text(LAGGING)
    (tmp_path / "conf" / "env" / "lagging.yaml").write_text("defaults: [paper, _self_]\nname: lagging\n")
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(tmp_path))
    small = ("source.n_cells=300", "encoder=pca", "encoder.components=8", "schedule.total=1024", "device=cpu")
    rollout = ("agent.rollout_steps=256", "agent.n_envs=8", "progress=quiet")
    command = [sys.executable, "-m", "perturbrl", "train", "env=lagging", *small, *rollout]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: env=lagging: a run that goes on from a checkpoint would differ"), done.stderr
    assert "state() must hold all that step changes" in done.stderr
