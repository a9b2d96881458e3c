"""``agent.optimizer=NAME`` chooses a file of ``conf/agent/optimizer``, wherever it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import perturbrl
from perturbrl import config as config_module
from perturbrl import paths
from perturbrl.config import fingerprint
from perturbrl.errors import UserError
from perturbrl.optim.settings import SCHEMAS
from perturbrl.run_dirs import NOT_IN_HASH
from perturbrl.runner import conf_tree
from perturbrl.runner.hydra.compose import compose, compose_config
from perturbrl.runner.job import make_job

from .tiny import small


def shipped(name: str) -> Any:
    values = OmegaConf.load(paths.conf_dir() / "agent" / "optimizer" / f"{name}.yaml")
    below = [shipped(each) for each in values.pop("defaults", ()) if each != "_self_"]
    return OmegaConf.to_container(OmegaConf.merge(*below, values))


FILES = sorted(file.stem for file in (paths.conf_dir() / "agent" / "optimizer").glob("*.yaml"))
OTHER = "amsgrad"


def test_every_file_has_a_schema() -> None:
    assert {shipped(name)["name"] for name in FILES} == set(SCHEMAS) <= set(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("spelled", ["agent.optimizer={}", 'agent.optimizer="{}"', "agent/optimizer={}"])
def test_a_word_chooses_the_file(name: str, spelled: str, tmp_path: Path) -> None:
    made = compose([spelled.format(name)], tmp_path, "x")
    assert made.config.agent.optimizer == shipped(name)
    assert type(made.job().config.agent.optimizer) is SCHEMAS[shipped(name)["name"]]
    assert made.path.parent.name == f"ppo,optimizer={name}", "the label is what a user types, however it is spelled"


@pytest.mark.parametrize("agent", ["trpo_ppo", "staged"])
@pytest.mark.parametrize("spelled", ["agent.ppo.optimizer={}", "agent/optimizer@agent.ppo.optimizer={}"])
def test_each_stage_has_its_own(spelled: str, agent: str, tmp_path: Path) -> None:
    words = [f"agent={agent}", spelled.format(OTHER), "agent.ppo.optimizer.eps=0.5"]
    made = compose(words, tmp_path, "x")
    assert made.config.agent.ppo.optimizer == shipped(OTHER) | {"eps": 0.5}
    assert made.config.agent.trpo.optimizer == shipped("adam")
    assert f"ppo.optimizer={OTHER}" in made.path.parent.name
    assert made.job().config.agent.ppo.optimizer.eps == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agent.optimizer=adma"], r"^agent\.optimizer: 'adma' is not known \(did you mean 'adam'\?\); choose "),
        (["agent=trpo_ppo", "agent.ppo.optimizer=adma"], r"^agent\.optimizer: 'adma' is not known"),
        (
            ["agent=trpo_ppo", "agent.optimizer=adam"],
            r"^agent\.optimizer: .* choose it at agent\.ppo\.optimizer or agent\.trpo\.optimizer$",
        ),
        (["agent=sac", "agent.optimizer=padam"], r"^agent\.optimizer: .*; this agent has no choice of it$"),
        (
            ["agent=staged", "agent.ppo.optimizer=adma"],
            r"^agent\.ppo\.optimizer: 'adma' is not known \(did you mean 'adam'",
        ),
        (
            ["agent=staged", "agent.optimizer=adam"],
            r"^agent\.optimizer: .* choose it for a stage, such as agent\.ppo\.opt",
        ),
        (["agent.optimizer.betta1=0.5"], r"^agent\.optimizer\.betta1: unknown key \(did you mean 'beta1'\?\)"),
    ],
)
def test_a_wrong_name_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose_config(words)


def test_a_value_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^agent\.optimizer: expected a group of keys, got None$"):
        compose(["agent.optimizer=null"], tmp_path, "x").job()


def study(folder: Path, body: str) -> None:
    conf = folder / "plugin" / "conf" / "experiment"
    conf.mkdir(parents=True)
    (folder / "plugin" / "study.py").touch()
    (conf / "study.yaml").write_text(f"# @package _global_\n{body}")


@pytest.mark.parametrize("name", [OTHER, "adam_99"])
@pytest.mark.parametrize(
    "body",
    ["agent:\n  optimizer: {}\n", "defaults:\n  - override /agent/optimizer: {}\n"],
    ids=["plain key", "defaults list"],
)
def test_an_experiment_file_chooses_it_and_the_command_line_comes_after(
    body: str, name: str, tmp_path: Path, monkeypatch
) -> None:
    study(tmp_path, body.format(name))
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(tmp_path / "plugin"))
    config = compose_config(["experiment=study", "agent.optimizer.eps=0.25"])
    assert config.agent.optimizer == shipped(name) | {"eps": 0.25}


def test_an_experiment_file_with_a_wrong_name_is_one_line(tmp_path: Path, monkeypatch) -> None:
    study(tmp_path, "agent:\n  optimizer: adma\n")
    monkeypatch.setenv("PERTURBRL_PLUGINS", str(tmp_path / "plugin"))
    with pytest.raises(UserError, match=r"^agent\.optimizer: 'adma' is not known"):
        compose_config(["experiment=study"])


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=population",)])
def test_a_sweep_takes_it(run, launcher: tuple[str, ...]) -> None:
    out = Path.cwd() / "out"
    words = [w for w in small("ppo", "schedule.total=256", "agent.optimizer.eps=1e-4") if not w.startswith("agent=")]
    code, _, err = run("train", "-m", *words, f"agent.optimizer={OTHER},adma", *launcher, f"hydra.sweep.dir={out}")
    assert code != 0 and "agent.optimizer: 'adma' is not known" in err


def test_the_python_interface_takes_it(tmp_path: Path) -> None:
    words = dict(word.split("=") for word in small("ppo", "schedule.total=256") if not word.startswith("agent="))
    given = {key: OmegaConf.create(f"x: {value}").x for key, value in words.items() if key != "progress"}
    plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in given.items()}
    runs = perturbrl.train(overrides=plain | {"agent.optimizer": OTHER}, out=tmp_path)
    assert runs.jobs[0].raw["agent"]["optimizer"] == shipped(OTHER)


def test_completion_knows_the_choice_and_its_keys() -> None:
    roots = conf_tree.conf_dirs()
    groups = conf_tree.groups(roots)
    assert groups["agent/optimizer"] == FILES
    for words, place in (
        ((f"agent.optimizer={OTHER}",), "agent.optimizer"),
        (("agent=trpo_ppo", f"agent.ppo.optimizer={OTHER}"), "agent.ppo.optimizer"),
    ):
        keys = conf_tree.keys(roots, conf_tree.chosen(words, groups))
        assert {key for key in keys if key.startswith(f"{place}.")} == {f"{place}.{key}" for key in shipped(OTHER)}


# --- keys that are new since 0.1.0


NEUTRAL = {"name": "adam", "beta1": 0.9, "beta2": 0.999, "eps": 1e-5}


def test_a_new_key_with_its_neutral_value_is_no_part_of_the_fingerprint() -> None:
    old = {"agent": {"name": "ppo", "lr": 1e-4}, "seed": 0}
    staged = {"agent": {"name": "trpo_ppo", "trpo": {"lr": 1}, "ppo": {"lr": 2}}, "seed": 0}
    new = {"agent": {**old["agent"], "optimizer": NEUTRAL}, "seed": 0}
    both = {"agent": {"name": "trpo_ppo", **{k: {"lr": n, "optimizer": NEUTRAL} for k, n in (("trpo", 1), ("ppo", 2))}}}
    assert fingerprint(new) == fingerprint(old)
    assert fingerprint({**both, "seed": 0}) == fingerprint(staged)
    changed = {"agent": {**old["agent"], "optimizer": NEUTRAL | {"eps": 1e-8}}, "seed": 0}
    assert fingerprint(changed) != fingerprint(old)
    elsewhere = {**old, "env": {"optimizer": NEUTRAL}}
    assert fingerprint(elsewhere) != fingerprint({**old, "env": {}}), "the key of another group is another key"


@pytest.mark.parametrize("agent", ["ppo", "trpo", "trpo_ppo"])
def test_runs_keep_their_hash(agent: str, tmp_path: Path, monkeypatch) -> None:
    job = compose([f"agent={agent}"], tmp_path, "x").job()
    raw = {group: config_module.without_added(group, node) for group, node in job.raw.items()}
    assert "optimizer" not in str(raw["agent"]) and "optimizer" in str(job.raw["agent"])
    assert "threshold_rate" not in raw["env"] and job.raw["env"]["threshold_rate"] == 0
    assert make_job(OmegaConf.create(raw), tmp_path).hash == job.hash, "a config of an older version"
    monkeypatch.setattr(config_module, "ADDED", {})
    old = fingerprint(raw, NOT_IN_HASH)
    monkeypatch.undo()
    assert job.hash == old


@pytest.mark.parametrize(("group", "neutral"), [("encoder", "adam"), ("baseline", "adamw")])
def test_supervised_parts_declare_theirs(group: str, neutral: str) -> None:
    with_it = {group: {"name": "x", "optimizer": neutral}}
    assert fingerprint(with_it) == fingerprint({group: {"name": "x"}})
    assert fingerprint({group: {"name": "x", "optimizer": "sgd"}}) != fingerprint(with_it)
    file = {"encoder": "gat", "baseline": "mlp"}[group]
    assert OmegaConf.load(paths.conf_dir() / group / f"{file}.yaml").optimizer == neutral


STUDY = {
    "asgd_adam": (1e-4, {"name": "asgd_adam", "beta1": 0.9, "beta2": 0.999, "lr_min": 1e-7}),
    "asgd_amsgrad": (1e-4, {"name": "asgd_amsgrad", "beta1": 0.9, "beta2": 0.999, "lr_min": 1e-7}),
    "adam_99": (1e-4, {"name": "adam", "beta1": 0.9, "beta2": 0.99}),
    "amsgrad_99": (1e-4, {"name": "amsgrad", "beta1": 0.9, "beta2": 0.99}),
    "padam": (1e-2, {"name": "padam", "partial": 0.125}),
    "sgd": (1e-3, {"name": "sgd", "momentum": 0.9}),
}


def test_the_study_has_the_rates_and_betas_of_the_sources(tmp_path: Path) -> None:
    params = compose_config(["experiment=optimizers"]).hydra.sweeper.params
    assert params["agent.optimizer"].split(",") == list(STUDY) and params["seed"] == "range(10)"
    for name, (lr, values) in STUDY.items():
        job = compose(["experiment=optimizers", f"agent.optimizer={name}"], tmp_path, "x").job()
        assert job.config.agent.lr == lr and job.config.agent.total_steps == 100_000
        assert values.items() <= job.raw["agent"]["optimizer"].items()
        assert "experiment" not in job.raw
    assert compose(["experiment=optimizers", "agent.lr=0.5"], tmp_path, "x").job().config.agent.lr == 0.5
