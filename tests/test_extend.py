"""The agents of docs/extend.md beside the shortest one can be trained as the page says, and pass the test it shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AGENTS = Path(__file__).resolve().parents[1] / "examples" / "plugins" / "agents"
SMALL = (
    *("source.n_cells=300", "source.n_target_genes=40", "source.n_peaks=60", "source.n_proteins=10"),
    *("encoder=pca", "encoder.components=8", "env.horizon=20", "schedule.total=512"),
    *("agent.rollout_steps=256", "agent.n_envs=8", "device=cpu", "progress=plain", "kernels=auto"),
)
EXECUTORS = {
    "small_value_ppo": "SmallValuePPO replaces loss of PPO: its steps run one by one in torch",
    "reinforce": None,
    "torch_optimiser": None,
    "layer_norm_ppo": None,
}


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PERTURBRL_PLUGINS": str(AGENTS)}
    line = [sys.executable, "-m", *words]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_every_agent_of_the_page_is_tried() -> None:
    assert {file.stem for file in AGENTS.glob("*.py")} == set(EXECUTORS)


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_agent_of_the_page_trains_and_evaluates(name: str, tmp_path: Path) -> None:
    printed = command(tmp_path, "perturbrl", "train", f"agent={name}", *SMALL).stderr
    (file,) = tmp_path.rglob("run.json")
    run = json.loads(file.read_text())
    assert (run["status"], run["agent"]) == ("complete", name)
    message = EXECUTORS[name]
    assert "one by one in torch" not in printed if message is None else message in printed
    assert "native" not in json.dumps(run["executors"])
    assert "evaluated" in command(tmp_path, "perturbrl", "evaluate").stderr


def test_an_agent_of_the_page_can_be_a_stage(tmp_path: Path) -> None:
    sizes = [f"agent.{name}.{key}" for name in ("reinforce", "ppo") for key in ("rollout_steps=256", "n_envs=8")]
    words = [word for word in SMALL if not word.startswith(("agent.", "schedule."))]
    stages = "agent.stages=[reinforce:256,ppo:512]"
    command(tmp_path, "perturbrl", "train", "agent=staged", stages, "agent.reinforce.lr=0.01", *sizes, *words)
    (file,) = tmp_path.rglob("run.json")
    run = json.loads(file.read_text())
    assert (run["status"], run["steps"], list(run["executors"])) == ("complete", 768, ["reinforce", "ppo"])


def test_the_test_of_the_page_passes(tmp_path: Path) -> None:
    done = command(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", str(AGENTS / "tests"))
    assert f"{len(EXECUTORS)} passed" in done.stdout
