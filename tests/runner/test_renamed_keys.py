"""``env.max_perturb`` of env=counterfactual is ``env.max_train_targets``; old commands, files and runs stay valid."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import yaml
from fakes.screens import additive

from perturbrl import config as config_module
from perturbrl import paths, records
from perturbrl.config import fingerprint
from perturbrl.envs import factory
from perturbrl.runner.hydra.compose import compose, compose_config
from perturbrl.runner.job import NOT_IN_HASH, load_job

from .test_counterfactual import job
from .tiny import assert_same_run, progress, status, train, train_until

NOTICE = "env.max_perturb: is called env.max_train_targets with env=counterfactual"
FIXTURE = Path(__file__).parents[1] / "fixtures" / "runs_0_1_0"
COUNTERFACTUAL = ("env=counterfactual", "source=landscape")


@pytest.mark.parametrize("more", [(), ("experiment=counterfactual",)])
def test_the_old_key_of_a_command_sets_the_new_one_with_a_notice(more: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=NOTICE) as notices:
        old = compose([*COUNTERFACTUAL, *more, "env.max_perturb=1"], tmp_path, "x")
    assert len(notices) == 1
    assert old.config.env.max_train_targets == 1 and "max_perturb" not in old.config.env
    assert old.path.parents[1].name == "counterfactual,max_perturb=1", "the folder is that of before"
    new = compose([*COUNTERFACTUAL, *more, "env.max_train_targets=1"], tmp_path, "x")
    assert old.job().raw == new.job().raw


def test_of_the_other_tasks_it_is_the_size_of_an_event() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compose_config(["env=paper", "env.max_perturb=7"]).env.max_perturb == 7


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=population",)])
def test_a_sweep_over_both_tasks_takes_it_as_each_of_them_means_it(run, launcher: tuple[str, ...]) -> None:
    words = ("env=paper,counterfactual", "env.max_perturb=0", *launcher, f"hydra.sweep.dir={Path.cwd() / 'out'}")
    with pytest.warns(UserWarning, match=NOTICE):
        code, _, err = run("train", "-m", *words)
    assert code != 0
    assert "env.max_perturb: must be at least 1, got 0" in err
    assert "env.max_train_targets: must be at least 1, got 0" in err


def test_an_experiment_file_may_use_it_and_the_command_line_comes_after(tmp_path: Path, monkeypatch) -> None:
    conf = tmp_path / "plugin" / "conf" / "experiment"
    conf.mkdir(parents=True)
    (tmp_path / "plugin" / "study.py").touch()
    text = "# @package _global_\ndefaults:\n  - override /env: counterfactual\nenv:\n  max_perturb: 1\n"
    (conf / "singles.yaml").write_text(text)
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(tmp_path / "plugin"))
    with pytest.warns(UserWarning, match=NOTICE):
        env = compose_config(["experiment=singles"]).env
    assert env.max_train_targets == 1 and "max_perturb" not in env
    with pytest.warns(UserWarning, match=NOTICE):
        assert compose_config(["experiment=singles", "env.max_train_targets=3"]).env.max_train_targets == 3


def test_make_accepts_it() -> None:
    table = additive()
    with pytest.warns(UserWarning, match=NOTICE):
        env = factory.make_batched("counterfactual", table, 8, max_perturb=1)
    assert int(env._allowed) == int(factory.make_batched("counterfactual", table, 8, max_train_targets=1)._allowed)


def test_a_renamed_key_is_hashed_under_its_old_name(monkeypatch) -> None:
    new = {"env": {"name": "counterfactual", "max_train_targets": 2}, "seed": 0}
    old = {"env": {"name": "counterfactual", "max_perturb": 2}, "seed": 0}
    paper = {"env": {"name": "paper", "max_perturb": 2}, "seed": 0}
    hashes = [fingerprint(values) for values in (new, old, paper)]
    monkeypatch.setattr(config_module, "RENAMED", {})
    assert hashes == [fingerprint(values) for values in (old, old, paper)]


def test_a_run_of_0_1_0_binds_without_a_notice() -> None:
    (file,) = (f for f in FIXTURE.rglob(paths.CONFIG) if yaml.safe_load(f.read_text())["env"]["name"] != "paper")
    assert yaml.safe_load(file.read_text())["env"]["max_perturb"] == 2
    config_hash = records.read_json(file.parent / paths.RUN)["config_hash"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old = load_job(file.parent, config_hash)
    assert old.config.env.max_train_targets == 2
    assert old.hash == config_hash == fingerprint(yaml.safe_load(file.read_text()), NOT_IN_HASH)


def with_old_key(run: Path) -> None:
    """Write the config of a run as it was written before the key was renamed."""
    file = run / paths.CONFIG
    file.write_text(file.read_text().replace("max_train_targets:", "max_perturb:"))
    assert "max_perturb: 2" in file.read_text()


def test_a_run_recorded_with_the_old_key_is_skipped_and_resumed(tmp_path: Path, monkeypatch) -> None:
    whole = job(tmp_path / "whole")
    assert [o.status for o in train(whole)] == ["complete"]
    with_old_key(whole.path)
    written = (whole.path / paths.CONFIG).read_bytes()
    assert [o.status for o in train(whole)] == ["skipped"]
    assert (whole.path / paths.CONFIG).read_bytes() == written

    cut = job(tmp_path / "cut")
    train_until(cut, 2, monkeypatch)
    with_old_key(cut.path)
    before = progress(cut.path)
    assert status(cut.path) == "running" and 0 < len(before) < len(progress(whole.path))
    assert [o.status for o in train(cut)] == ["complete"]
    after = progress(cut.path)
    assert list(after.seconds[: len(before)]) == list(before.seconds), "it went on"
    assert_same_run(whole.path, cut.path)
