"""perturbrl from Python, as in a notebook."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import torch
from runner.tiny import SMALL

import perturbrl
from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.runner.evaluate import load_policy
from perturbrl.runner.naming import run_labels, run_path

# the same settings as elsewhere, as a mapping
TINY = {
    **{"encoder": "pca", "encoder.components": 6, "env.horizon": 20, "policy.hidden": [16, 16]},
    **{"agent.rollout_steps": 256, "agent.n_envs": 8, "protocol.return_episodes": 8, "protocol.search_episodes": 8},
    **{"curve_points": 2, "device": "cpu"},
}
LANDSCAPE = dict(o.split("=") for o in SMALL if o.startswith("source."))
METRICS = {"accuracy", "precision", "recall", "f1", "auprc", "mse", "rmse", "mae", "r2", "pearson"}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def annotated(n: int = 120, genes: int = 30, seed: int = 0, prefix: str = "gene") -> ad.AnnData:
    rng = np.random.default_rng(seed)
    time = rng.random(n)
    counts = rng.poisson(np.exp(1 + np.sin(4 * time[:, None] + 6 * rng.random(genes)))).astype(np.float32)
    obs = pd.DataFrame({"pseudotime": time}, index=[f"cell{i}" for i in range(n)])
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"{prefix}{j}" for j in range(genes)]))


def train(*args, out: Path, steps: int | None = 512, **kwargs) -> perturbrl.Runs:
    overrides = TINY | kwargs.pop("overrides", {})
    return perturbrl.train(*args, steps=steps, out=out, overrides=overrides, **kwargs)


def test_five_lines(tmp_path: Path) -> None:
    cells = annotated()
    runs = train(cells, "ppo", seeds=2, out=tmp_path)
    table = runs.table()
    policy = runs.policy()
    action = policy(torch.from_numpy(runs.cells.x[:5]))

    assert [p.name for p in runs.paths] == ["seed0", "seed1"]
    assert METRICS | {"mean_abs_action", "return_gain"} <= set(table.columns)
    assert list(table.index) == ["policy", "do_nothing", "random_uniform", "random_sign", "best_constant"]
    assert table.loc["do_nothing", "accuracy"] == 1.0 and table.loc["do_nothing", "mse"] == 0.0
    assert table.notna().all().all()
    assert action.shape == (5, 6) and float(action.abs().max()) <= 1.0
    assert runs.cells.x.shape == (120, 6) and runs.cells.source.startswith("cells-")
    assert runs.progress(1)["step"].tolist() == [256, 512]


def test_the_table_is_the_mean_over_seeds_of_what_the_runs_say(tmp_path: Path) -> None:
    runs = train(annotated(), seeds=[3, 5], out=tmp_path)
    assert [records.read_json(p / paths.RUN)["seed"] for p in runs.paths] == [3, 5]
    table = runs.table()
    said = [records.read_json(p / paths.EVALUATION / paths.SUMMARY)["rows"]["policy"] for p in runs.paths]
    for metric in METRICS:
        assert table.loc["policy", metric] == pytest.approx(np.mean([each[metric] for each in said]))
    assert said[0]["mse"] != said[1]["mse"]


def test_each_policy_is_that_of_its_run(tmp_path: Path) -> None:
    runs = train(annotated(), seeds=2, out=tmp_path)
    runs.table()
    x = torch.from_numpy(runs.cells.x[runs.cells.test][:30])
    rows = [records.read_json(p / paths.EVALUATION / paths.SUMMARY)["rows"] for p in runs.paths]
    for k in range(2):
        assert runs.policy(k)(x).abs().mean().item() == pytest.approx(rows[k]["policy"]["mean_abs_action"])
    assert not torch.equal(runs.policy(0)(x), runs.policy(1)(x))


def test_the_same_call_again_trains_nothing(tmp_path: Path) -> None:
    first = train(annotated(), out=tmp_path)
    stamp = (first.paths[0] / paths.CHECKPOINT).stat().st_mtime_ns
    again = train(annotated(), out=tmp_path)
    assert again.paths == first.paths
    assert (first.paths[0] / paths.CHECKPOINT).stat().st_mtime_ns == stamp
    other = train(annotated(seed=1), out=tmp_path)
    assert other.paths != first.paths


def test_a_file_that_changed_under_the_same_name_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "mine.h5ad"
    annotated().write_h5ad(file)
    before = train(file, out=tmp_path / "one").cells.x
    annotated(seed=1).write_h5ad(file)
    assert not np.array_equal(train(str(file), out=tmp_path / "two").cells.x, before)


def test_two_modalities(tmp_path: Path) -> None:
    peaks = annotated(seed=1)
    peaks.var_names = [f"chr1:{100 * j}-{100 * j + 50}" for j in range(30)]
    both = mudata.MuData({"rna": annotated(), "atac": peaks})
    runs = train(both, data="joint", out=tmp_path, overrides={"policy.net": "branches"})
    assert list(runs.cells.slices) == ["rna", "atac"] and runs.cells.n_features == 12
    with pytest.raises(UserError, match="data=cite: source .* has no protein"):
        train(both, data="cite", out=tmp_path)


def test_the_landscape_without_cells(tmp_path: Path) -> None:
    runs = train(agent="trpo", out=tmp_path, overrides=LANDSCAPE, name="mine")
    assert runs.cells.source == "landscape"
    assert runs.paths[0].is_relative_to(tmp_path / "mine") and "trpo" in runs.paths[0].parts[-2]


def test_steps_are_shared_between_the_stages(tmp_path: Path) -> None:
    parts = {f"agent.{s}.{k}": v for s in ("trpo", "ppo") for k, v in {"rollout_steps": 256, "n_envs": 8}.items()}
    tiny = {k: v for k, v in TINY.items() if not k.startswith("agent.")}
    runs = perturbrl.train(annotated(), "trpo_ppo", steps=1536, out=tmp_path, overrides=tiny | parts)
    assert runs.progress()["stage"].tolist() == ["trpo"] + ["ppo"] * 5


@pytest.mark.parametrize("how", [{"schedule": "per_iteration"}, {"agent.mode": "interleaved"}])
def test_interleaved_stages_use_every_step_both(how: dict[str, str], tmp_path: Path) -> None:
    parts = {f"agent.{s}.{k}": v for s in ("trpo", "ppo") for k, v in {"rollout_steps": 256, "n_envs": 8}.items()}
    tiny = {k: v for k, v in TINY.items() if not k.startswith("agent.")}
    runs = perturbrl.train(annotated(), "trpo_ppo", steps=512, out=tmp_path, overrides=tiny | parts | how)
    assert runs.progress()["step"].tolist() == [256, 512]
    assert runs.progress()["stage"].tolist() == ["trpo_ppo"] * 2


def test_a_policy_acts_in_the_arithmetic_of_its_own_run(tmp_path: Path) -> None:
    cells = annotated()
    rounded = train(cells, out=tmp_path, overrides={"kernels": "torch", "precision": "bf16"})
    x = torch.from_numpy(rounded.cells.x[:30])
    policy = rounded.policy()
    before = policy(x)
    exact = train(cells, out=tmp_path, overrides={"kernels": "torch"})
    assert torch.equal(policy(x), before) and torch.equal(rounded.policy()(x), before)
    assert before.ne(load_policy(rounded.jobs[0], rounded.cells, "float32")(x)).any()
    assert torch.equal(exact.policy()(x), load_policy(exact.jobs[0], exact.cells, "float32")(x))


def test_folders_are_those_of_the_command_line(tmp_path: Path) -> None:
    changed = {"env.max_perturb": 4, "agent.lr": 3e-4, "data.preset": "released", "agent.target_kl": None}
    runs = perturbrl.train(
        agent="ppo",
        steps=512,
        out=tmp_path,
        overrides=TINY | LANDSCAPE | changed | {"agent.normalise_advantage": False},
    )
    typed = ["agent=ppo", "data=rna", *(f"schedule.{k}" for k in ("total=512", "trpo=85", "ppo=427"))]
    typed += [f"{k}={v}" for k, v in (LANDSCAPE | {"encoder": "pca", "policy.hidden": "[16,16]"}).items()]
    typed += [f"{k}={v}" for k, v in TINY.items() if k not in ("encoder", "policy.hidden")]
    typed += ["env.max_perturb=4", "agent.lr=3e-4", "data.preset=released", "agent.target_kl=null"]
    choices = {"source": "landscape", "data": "rna", "env": "paper", "agent": "ppo"}
    expected = run_path(run_labels(choices, [*typed, "agent.normalise_advantage=false"], "notebook"), 0)
    assert runs.paths[0].relative_to(tmp_path) == expected
    config = runs.jobs[0].config
    assert (config.env.max_perturb, config.agent.lr, config.data.preset) == (4, 3e-4, "released")
    assert config.agent.normalise_advantage is False and config.agent.target_kl is None
    assert config.policy.hidden == [16, 16]


@pytest.mark.slow  # the launcher's test of two processes is fast
def test_two_processes_give_the_same(tmp_path: Path) -> None:
    one = train(annotated(), seeds=2, out=tmp_path / "one", overrides={"curve_points": 0})
    two = train(annotated(), seeds=2, out=tmp_path / "two", overrides={"curve_points": 0}, workers=2)
    x = torch.from_numpy(one.cells.x[:9])
    for k in range(2):
        assert torch.equal(one.policy(k)(x), two.policy(k)(x))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"agent": "ppp"}, r"agent: 'ppp' is not known.*ppo"),
        ({"data": "rnaa"}, r"data: 'rnaa' is not known.*rna"),
        ({"overrides": {"agent.learning_rate": 1}}, r"agent.learning_rate: unknown key"),
        ({"overrides": {"agent.lr": "fast"}}, r"agent.lr: 'fast' is not a valid float"),
        ({"overrides": {"env.perturb_prob": 2}}, r"env.perturb_prob: must be at least 0 and at most 1, got 2"),
        ({"seeds": [-1]}, r"^seed: must be at least 0 .*, got -1"),
        ({"seeds": 0}, r"seeds: .*at least one"),
        ({"seeds": []}, r"seeds: .*at least one"),
        ({"steps": 0}, r"agent.total_steps: must be at least 1, got 0"),
        ({"data": "joint"}, r"has no atac"),
        ({"progress": "loud"}, r"progress: 'loud' is not known"),
    ],
)
def test_mistakes_are_told_in_one_line(kwargs: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as said:
        train(annotated(), out=tmp_path, **kwargs)
    assert "\n" not in str(said.value)


def test_cells_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.h5ad"):
        train(tmp_path / "absent.h5ad", out=tmp_path)
    broken = annotated()
    broken.X[3, 4] = np.nan
    with pytest.raises(UserError, match="cell3"):
        train(broken, out=tmp_path)


def test_a_run_that_is_not_there_yet_cannot_be_looked_at(tmp_path: Path) -> None:
    runs = train(annotated(), out=tmp_path)
    (runs.paths[0] / paths.CHECKPOINT).unlink()
    with pytest.raises(UserError, match="checkpoint"):
        runs.policy()
    with pytest.raises(IndexError):
        runs.policy(1)


def test_the_readme_example(root: Path, tmp_path: Path, monkeypatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)
    (code,) = [block for block in blocks if "perturbrl.train(" in block]
    monkeypatch.chdir(tmp_path)
    plain = perturbrl.train

    def quickly(cells, agent, **kwargs):
        parts = {f"agent.{s}.{k}": v for s in ("trpo", "ppo") for k, v in {"rollout_steps": 256, "n_envs": 8}.items()}
        tiny = {k: v for k, v in TINY.items() if not k.startswith(("agent.", "encoder"))}
        return plain(cells, agent, overrides=tiny | parts, **(kwargs | {"steps": 1024, "seeds": 2}))

    monkeypatch.setattr(perturbrl, "train", quickly, raising=False)
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    runs = scope["runs"]
    assert scope["policy"](torch.from_numpy(runs.cells.x[:3])).shape == (3, runs.cells.n_features)


def test_the_names_that_can_be_imported() -> None:
    from perturbrl import Runs, train

    assert train is perturbrl.train and Runs is perturbrl.Runs
    with pytest.raises(ImportError):
        exec("from perturbrl import nonsense")
