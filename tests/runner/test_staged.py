"""Stages on the command line: the list and the settings of each stage, in one run and in a sweep; labels and hashes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.runner.hydra.compose import compose_config, compose_job
from perturbrl.runner.job import load_job, save_config

from .conf_probes import planned
from .tiny import ROLLOUT, cli_run, job, small, train

LISTED = "agent.stages=[trpo:512,ppo:256]"


def test_settings_of_a_stage_have_the_defaults_of_its_agent() -> None:
    made = job(Path("run"), "staged", "agent.stages=[ppo:1k,trpo:2_000,ppo:1M]", "agent.ppo.lr=0.01")
    agent = made.config.agent
    assert agent.budgets == [("ppo", 1000), ("trpo", 2000), ("ppo", 10**6)]
    assert (agent.ppo.lr, agent.trpo.lr, agent.ppo.clip, agent.trpo.critic_epochs) == (0.01, 1e-4, 0.2, 10)
    assert (agent.ppo.total_steps, agent.trpo.total_steps, agent.n_envs) == (1_001_000, 2000, 8)


def test_the_same_stages_have_the_same_hash_however_steps_are_written() -> None:
    one, two, other = (job(Path("run"), "staged", f"agent.stages=[trpo:{n},ppo:40k]") for n in ("10k", "10_000", "11k"))
    assert one.hash == two.hash != other.hash
    assert one.raw["agent"]["stages"] == ["trpo:10000", "ppo:40000"]


def test_a_run_binds_again_from_its_file(tmp_path: Path) -> None:
    made = job(tmp_path, "staged", LISTED, "agent.ppo.clip=0.1")
    made.path.mkdir(parents=True)
    save_config(made)
    again = load_job(made.path, made.hash)
    assert again.hash == made.hash and again.config == made.config


def test_the_folder_says_which_stages() -> None:
    labels = {
        "agent.stages=[trpo:10k,ppo:40k]": "staged,stages=trpo-10k+ppo-40k",
        r"agent.stages=[trpo\:10k,ppo\:40k]": "staged,stages=trpo-10k+ppo-40k",  # as Hydra's sweeps write it
        'agent.stages=["trpo:10k", "ppo:40k"]': "staged,stages=trpo-10k+ppo-40k",
    }
    for override, label in labels.items():
        made = compose_job(["agent=staged", override], Path(), "x")
        assert made.path.parts[-2] == label
        assert made.raw["agent"]["stages"] == ["trpo:10000", "ppo:40000"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["agent.ppo.lrr=1"], r"agent\.ppo\.lrr: unknown key \(did you mean 'lr'\?\); valid keys are .*clip"),
        (["agent.stages=[ppo:1k]", "agent.trpo.lr=1"], r"agent\.trpo: agent\.stages has no stage of that name"),
        (["agent.stages=trpo"], r"agent\.stages: must be a list of NAME:STEPS"),
        (["agent.stages=[pppo:1k]"], r"agent\.stages\[0\]: 'pppo' is not known"),
        (["agent.stages=[trpo_ppo:1k]"], r"agent\.stages\[0\]: trpo_ppo cannot be a stage"),
        (["agent.ppo.total_steps=7"], r"agent\.ppo\.total_steps: is 7 and must be 50000: agent\.stages says so"),
        (["agent.ppo.n_envs=8"], r"agent\.ppo\.n_envs: is 8 but agent\.trpo\.n_envs is 32; all stages need the same"),
        (["agent.ppo.rollout_steps=256"], r"agent\.ppo\.rollout_steps: is 256 but agent\.trpo\.rollout_steps is 2048"),
        (["agent.clip=0.1"], r"agent\.clip: unknown key"),
    ],
)
def test_a_mistake_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as caught:
        compose_job(["agent=staged", *overrides], Path(), "x")
    assert "\n" not in str(caught.value)


def test_a_sweep_over_stages_trains_each(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for word in small("staged", "curve_points=0") if not word.startswith(("agent.", "schedule."))]
    swept = "agent.stages=[ppo:4k],[trpo:2k,ppo:2k]"
    launcher = ("hydra/launcher=population", "hydra.launcher.workers=1")
    code, _, err = cli_run(capsys)("train", "-m", *words, swept, "agent.ppo.epochs=2", *launcher)
    assert code == 0, err
    runs = {file.parts[-3].split(",")[2]: records.read_json(file) for file in tmp_path.rglob(paths.RUN)}
    assert {label: tuple(run["executors"]) for label, run in runs.items()} == {
        "stages=ppo-4k": ("ppo",),
        "stages=trpo-2k+ppo-2k": ("trpo", "ppo"),
    }
    assert {run["steps"] for run in runs.values()} == {4096}


@pytest.mark.parametrize(("variant", "second"), [("penalty", "ppo_penalty"), ("released", "ppo_released")])
def test_ppo_kl_trains_trpo_and_then_its_variant(variant: str, second: str, tmp_path: Path) -> None:
    sizes = [f"agent.{name}.{key}" for name in ("trpo", second) for key in (f"rollout_steps={ROLLOUT}", "n_envs=8")]
    words = [word for word in small("ppo_kl", f"agent.variant={variant}") if not word.startswith("agent.ppo_penalty")]
    made = compose_job([*words, *(w for w in sizes if w not in words)], tmp_path, "x")
    assert made.path.parts[-2].startswith("ppo_kl,")
    assert [outcome.status for outcome in train(made)] == ["complete"]
    log = pd.read_parquet(made.path / paths.PROGRESS)
    assert log["stage"].tolist() == ["trpo"] * 2 + [second] * 3
    if variant == "penalty":
        target = log.loc[log["stage"] == second, "kl_target"]
        assert target.tolist() == pytest.approx([log.loc[log["stage"] == "trpo", "kl"].mean()] * 3)
        assert (log.loc[log["stage"] == second, "beta"] > 0).all()


@pytest.mark.parametrize(
    ("agent", "stages"),
    [
        ("ppo", ["ppo"] * 49),
        ("trpo_ppo", ["trpo"] + ["ppo"] * 49),
        ("trpo_from_ppo", ["ppo"] + ["trpo"] * 49),
        ("ppo_kl", ["trpo"] + ["ppo_penalty"] * 49),
    ],
)
def test_the_budgets_of_the_readme(agent: str, stages: list[str], tmp_path: Path) -> None:
    words = [word for word in small(agent) if not word.startswith(("agent.", "schedule."))]
    made = compose_job([*words, "schedule=readme"], tmp_path, "x")
    assert OmegaConf.create(planned(made, tmp_path)) == stages


def test_the_study_of_the_second_version_has_every_arm_at_horizon_1() -> None:
    made = [compose_job(["experiment=two_stage_kl", f"agent.stages={stages}"], Path(), "x") for stages in _arms()]
    assert {job.config.env.horizon for job in made} == {1}
    steps = {tuple(name for name, _ in job.config.agent.budgets): job.config.agent.budgets for job in made}
    assert steps.keys() == {
        ("trpo",),
        ("ppo",),
        *(("trpo", second) for second in ("ppo_released", "ppo", "ppo_penalty")),
    }
    assert {sum(n for _, n in budgets) for names, budgets in steps.items() if names != ("trpo",)} == {30_000}


def _arms() -> list[str]:
    params = compose_config(["experiment=two_stage_kl"]).hydra.sweeper.params
    return [f"[{part}]" for part in str(params["agent.stages"]).strip("[]").split("],[")]
