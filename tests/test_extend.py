"""The agents that docs/extend.md shows without a file of their own can be trained as the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extend.md"
AGENT = re.compile(r'@agent\("(\w+)"')
SMALL = (
    *("source.n_cells=300", "source.n_target_genes=40", "source.n_peaks=60", "source.n_proteins=10"),
    *("encoder=pca", "encoder.components=8", "env.horizon=20", "schedule.total=512"),
    *("agent.rollout_steps=256", "agent.n_envs=8", "device=cpu", "progress=plain", "kernels=auto"),
)
SETTINGS = {  # of agents whose configs are their own
    "reinforce": {"total_steps": 512, "rollout_steps": 256, "n_envs": 8, "lr": 0.001, "gamma": 0.99},
}
EXECUTORS = {
    "small_value_ppo": "SmallValuePPO replaces loss of PPO: its steps run one by one in torch",
    "reinforce": None,
    "layer_norm_ppo": None,
}


def agents() -> dict[str, str]:
    """The blocks of the page by the agent that they register."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return {match[1]: block for block in blocks if (match := AGENT.search(block))}


def test_every_agent_of_the_page_is_tried() -> None:
    assert set(agents()) - {"actor_critic"} == set(EXECUTORS)


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_agent_of_the_page_trains_and_evaluates(name: str, tmp_path: Path) -> None:
    conf = tmp_path / "plugins" / "conf" / "agent"
    conf.mkdir(parents=True)
    (tmp_path / "plugins" / f"{name}.py").write_text(agents()[name])
    settings = SETTINGS.get(name)
    defaults = "" if settings else "defaults: [ppo, _self_]\n"
    values = "".join(f"{key}: {value}\n" for key, value in (settings or {}).items())
    (conf / f"{name}.yaml").write_text(f"{defaults}name: {name}\n{values}")
    environment = os.environ | {"PERTURBRL_PLUGINS": str(tmp_path / "plugins")}

    def command(*words: str) -> str:
        line = [sys.executable, "-m", "perturbrl", *words]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    printed = command("train", f"agent={name}", *SMALL)
    (file,) = tmp_path.rglob("run.json")
    run = json.loads(file.read_text())
    assert (run["status"], run["agent"]) == ("complete", name)
    message = EXECUTORS[name]
    assert "one by one in torch" not in printed if message is None else message in printed
    assert "native" not in json.dumps(run["executors"])
    assert "evaluated" in command("evaluate")
