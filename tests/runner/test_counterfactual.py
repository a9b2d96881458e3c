"""From ``perturbrl train env=counterfactual`` to its evaluation: files, resume, populations, exports, errors."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from perturbrl import paths, records, registry
from perturbrl.effects.baselines import baseline_config, baseline_names
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import together
from perturbrl.landscape.truth import true_means
from perturbrl.metrics_info import DUPLICATES as ORACLES
from perturbrl.metrics_info import HELD_OUT as COLUMNS
from perturbrl.metrics_info import SIMPLE
from perturbrl.runner import conf_tree
from perturbrl.runner import train as training
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.job import Job
from perturbrl.screens.held_out import held_out_names
from perturbrl.screens.split_files import held_out

from .tiny import BUILT_IN, assert_same_run, progress, small, status, train, train_until, variant

CELLS = ("source.n_cells=1200", "source.n_target_genes=40", "source.n_peaks=4", "source.n_proteins=4")
CELLS += ("conditions=landscape", "conditions.min_cells=5")
QUICK = (
    *("protocol.n_cells=8", "protocol.curve_cells=4", "protocol.episodes=16", "protocol.score.n_duplicates=1"),
    "protocol.truth_cells=50",
    *("policy.hidden=[16,16]", "schedule.total=1024", "schedule.trpo=512", "schedule.ppo=768"),
    *("curve_points=2", "checkpoint_seconds=0", "device=cpu", "progress=quiet", "env.horizon=2"),
)


def asked(agent: str = "ppo", *more: str) -> list[str]:
    parts = ("trpo.", "ppo.") if agent == "trpo_ppo" else ("",)
    rollout = [f"agent.{p}{key}" for p in parts for key in ("rollout_steps=256", "n_envs=8")]
    wanted = {o.partition("=")[0]: o for o in ("env=counterfactual", f"agent={agent}", *CELLS, *QUICK, *rollout, *more)}
    return list(wanted.values())


def job(out: Path, agent: str = "ppo", *more: str) -> Job:
    return compose_job(asked(agent, *more), out, "tiny")


def summary(run: Path) -> dict:
    return records.read_json(run / paths.EVALUATION / paths.SUMMARY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Job:
    torch.set_num_threads(1)
    one = job(tmp_path_factory.mktemp("finished"))
    assert [o.status for o in train(one)] == ["complete"]
    Evaluator(["protocol.export=true"]).evaluate(one.path)
    return one


def test_claims_that_are_declared_after_training_are_marked(finished: Job, tmp_path: Path) -> None:
    shutil.copytree(finished.path, tmp_path / "run")
    Evaluator(["protocol.claims.metric=mse_norm"]).evaluate(tmp_path / "run")
    said = summary(tmp_path / "run")
    assert (said["claims"]["metric"], said["claims_declared"]) == ("mse_norm", "after training")
    config = tmp_path / "run" / paths.CONFIG
    config.write_text(config.read_text().replace("metric: pds_cosine", "metric: wr2_delta"))
    with pytest.warns(UserWarning, match="has been changed since the run was trained"):
        Evaluator().evaluate(tmp_path / "run")
    said = summary(tmp_path / "run")
    assert (said["claims"]["metric"], said["claims_declared"]) == ("wr2_delta", "after training")
    Evaluator(["protocol.success=0.4"]).evaluate(finished.path)
    assert summary(finished.path)["claims_declared"] == "before training"


def test_the_choices_that_the_task_makes_for_other_groups(tmp_path):
    made = job(tmp_path)
    config = made.config
    assert (config.split.kind, config.conditions.name, config.description.name) == (
        *("unseen_single", "landscape", "default"),
    )
    assert (config.encoder.name, config.protocol.name) == ("none", "counterfactual")
    assert job(tmp_path, "ppo", "split=additive", "conditions=auto").config.split.kind == "additive"
    # control cells alone leave nothing to hold out; what is asked for by name stays
    assert config.source.perturbations == "single"
    assert job(tmp_path, "ppo", "source.perturbations=double").config.source.perturbations == "double"
    paper = compose_job(["env=paper"], tmp_path, "tiny")
    assert paper.config.source.perturbations == "none"
    assert paper.config.conditions is None and "conditions" not in paper.raw


def test_what_an_evaluation_leaves(finished):
    table, said = load_cells(finished), summary(finished.path)
    assert list(said["rows"]) == ["policy", *baseline_names(), "best_actions", "simulator", "true_mean", *ORACLES]
    for row, found in said["rows"].items():
        assert {*COLUMNS, *(f"{kind}/{m}" for kind in ("calibrated", "median", "resistant") for m in COLUMNS)} <= set(
            found
        ), row
    policy, nothing = said["rows"]["policy"], said["rows"]["no_change"]
    rl = {"return", "return_normalised", "success_rate", "mean_abs_action", "steps", "wall_seconds"}
    rl |= {"return_share", "train_return_normalised", "train_return_share"}
    assert rl <= set(policy) and all(nothing[name] == 0 for name in rl)
    assert nothing["pds_cosine"] == 0.5 and nothing["mse_norm"] == pytest.approx(1)
    assert policy["steps"] == 1024 and 0 <= policy["success_rate"] <= 1
    split = {"kind": "unseen_single", "seed": 0, "sha256": table.split.sha256}
    sets = {"held_out": held_out(table.split, table.screen)}
    assert said["split"] == split | sets | {"held_out_names": held_out_names(table.screen, table.split)}
    tests = {table.screen.conditions[c].name for c in table.conditions_of(table.split.test)}
    assert said["header"]["n_test"] == len(tests)
    assert (said["protocol"], said["agent"], said["seed"], said["n_control_cells"]) == ("counterfactual", "ppo", 0, 8)
    protocol = finished.config.protocol
    assert said["settings"]["score"] == dataclasses.asdict(protocol.score)
    assert said["settings"]["truth_cells"] == protocol.truth_cells
    assert set(said["settings"]["baselines"]) == set(baseline_names()) and not set(said["settings"]) & {
        "name",
        "claims",
    }
    assert said["settings"]["baselines"]["knn"].items() <= dataclasses.asdict(baseline_config("knn")).items()
    frame = pd.read_parquet(finished.path / "evaluation" / "per_perturbation.parquet")
    assert list(frame) == ["row", "condition", "stratum", "n_cells", "effect_size", "metric", "value"]
    assert set(frame.condition) == tests and set(frame.row) == set(said["rows"])
    changes = pd.read_parquet(finished.path / "evaluation" / "changes.parquet")
    assert list(changes) == ["row", "condition", "gene", "change", "de"]
    assert {"truth", "policy"} < set(changes.row) and len(set(changes.row)) == 3
    assert set(changes.condition) <= tests and len(set(changes.gene)) == table.screen.x.shape[1]
    assert changes.de.any() and not changes.de.all()
    run = records.read_json(finished.path / paths.RUN)
    assert (run["n_cells"], run["n_features"]) == table.screen.x.shape


def test_the_policy_row_is_the_policy_rolled_on_held_out_control_cells(finished):
    """Recomputed step by step, from the environment's own definition and the policy of the checkpoint."""
    from perturbrl.runner.evaluate import load_policy

    table, config = load_cells(finished), finished.config
    policy = load_policy(finished, table)
    env = registry.envs["counterfactual"].build([config.env], table, table.split.control_test, 8, "cpu")
    changes = pd.read_parquet(finished.path / "evaluation" / "changes.parquet")
    name = changes.condition.iloc[0]
    index = [c.name for c in table.screen.conditions].index(name)
    rows = table.split.control_test[(np.arange(8) * len(table.split.control_test)) // 8]
    geometry = env.dynamics.geometry
    x = np.asarray(table.screen.x[rows].todense(), dtype=float)
    change = np.zeros_like(x)
    still = torch.zeros(1, 1, env.dynamics.action_size)
    known = env.dynamics.observe(torch.zeros(1, 1, geometry.state.shape[1]), torch.tensor([[index]]), still, 0)
    for t in range(2):
        state = (x + change - geometry.centre) @ geometry.state
        left = np.full((8, 1), 1 - t / 2)
        told = np.tile(known[0, 0, env.slices["state"].stop : env.slices["time"].start].numpy(), (8, 1))
        action = policy(torch.tensor(np.hstack([state, told, left]), dtype=torch.float32)).numpy()
        change += config.env.step_size * np.clip(action, -1, 1) * geometry.reach @ geometry.change.T
    own = changes[(changes.row == "policy") & (changes.condition == name)].change
    np.testing.assert_allclose(own, change.mean(0), atol=1e-4)


def test_the_best_allowed_actions_are_a_row_and_returns_are_shares_of_theirs(finished):
    """The true change of each test condition, clipped to two steps of the box, from the cells themselves."""
    from perturbrl.evaluate.counterfactual.returns import policy_returns
    from perturbrl.runner.evaluate import load_policy

    table, config, rows = load_cells(finished), finished.config, summary(finished.path)["rows"]
    split, best, policy = table.split, rows["best_actions"], rows["policy"]
    made = {
        use: registry.envs["counterfactual"].build([config.env], table, getattr(split, f"control_{use}"), 16, "cpu")
        for use in ("train", "test")
    }
    geometry = made["test"].dynamics.geometry
    frame = pd.read_parquet(finished.path / "evaluation" / "per_perturbation.parquet")
    frame = frame[(frame.row == "best_actions") & (frame.metric == "pearson_delta_ctrl")].set_index("condition").value
    x, condition = table.screen.x, table.screen.condition
    for index in table.conditions_of(split.test):
        own = split.test[condition[split.test] == index]
        true = np.asarray(x[own].mean(0) - x[split.control_test].mean(0)).ravel()
        most = 2 * config.env.step_size * geometry.reach
        reached = np.clip(true @ geometry.change, -most, most) @ geometry.change.T
        used = np.setdiff1d(np.arange(x.shape[1]), table.screen.target_columns(int(index)))
        expected = np.corrcoef(true[used], reached[used])[0, 1]
        assert frame[table.screen.conditions[index].name] == pytest.approx(expected, abs=1e-4)
    for use, start in (("train", "train_"), ("test", "")):
        env = made[use]
        played = policy_returns(lambda obs, env=env: env.demonstration(), env, 0)
        reached, perfect = played.returns.mean().item(), played.best.mean().item()
        learnt = policy_returns(together([load_policy(finished, table)]), env, 0).returns.mean().item()
        for row, value in {"best_actions": reached, "policy": learnt}.items():
            assert rows[row][f"{start}return_normalised"] == pytest.approx(value / perfect, rel=1e-5)
            assert rows[row][f"{start}return_share"] == pytest.approx(value / reached, rel=1e-5)
    assert best["return_share"] == best["train_return_share"] == 1 and policy["return_share"] < 1
    assert "steps" not in best  # nothing was trained


def test_the_simulator_is_a_row_and_regret_is_the_distance_to_it(finished):
    """From fresh cells of the same landscape, and the changes that the evaluation kept."""
    config, said = finished.config, summary(finished.path)
    screen = load_cells(finished).screen
    means = true_means(config.source, screen, config.data, config.conditions, 50)
    changes = pd.read_parquet(finished.path / "evaluation" / "changes.parquet")
    assert changes.condition.nunique() == said["header"]["n_test"]
    left = whole = 0.0
    names = [c.name for c in screen.conditions]
    for name, part in changes[changes.row == "policy"].groupby("condition", sort=False):
        true = means[names.index(name)] - means[names.index("control")]
        left, whole = left + float(np.square(part.change.to_numpy() - true).sum()), whole + float(np.square(true).sum())
    rows = said["rows"]
    assert rows["policy"]["regret"] == pytest.approx(left / whole, rel=1e-5)
    assert (rows["simulator"]["regret"], rows["no_change"]["regret"]) == (0, 1)
    assert all("regret" not in rows[row] for row in ORACLES)
    assert rows["simulator"]["pearson_delta_pert"] > max(rows[row]["pearson_delta_pert"] for row in SIMPLE)


def test_no_simulator_without_a_simulation(finished, tmp_path):
    one = dataclasses.replace(finished, path=tmp_path / "run")
    shutil.copytree(finished.path, one.path)
    Evaluator(["protocol.truth_cells=0"]).evaluate(one.path)
    rows = summary(one.path)["rows"]
    assert "simulator" not in rows and not any("regret" in found for found in rows.values())


def test_learning_curves_are_of_validation(finished):
    rows = progress(finished.path).dropna(subset=["eval/pds_cosine"])
    assert list(rows.iteration) == [0, 3]
    for name in ("eval/pearson_delta_pert", "eval/mse", "eval/return", "eval/return_share", "eval/mean_abs_action"):
        assert np.isfinite(rows[name]).all()


@pytest.mark.parametrize("agent", BUILT_IN)
def test_no_test_cell_is_read_in_training(agent, tmp_path, monkeypatch):
    """Spoil every cell of the test part: run and learning curve stay what they were, to the last bit."""
    one = job(tmp_path / "one", agent, "env.reward=energy")
    train(one)
    table = load_cells(one)
    x = table.screen.x.tolil()
    x[np.concatenate([table.split.test, table.split.control_test])] = 7.0
    spoilt = dataclasses.replace(table, screen=dataclasses.replace(table.screen, x=x.tocsr()))
    monkeypatch.setattr(training, "load_cells", lambda job: spoilt)
    two = dataclasses.replace(one, path=tmp_path / "two")
    train(two)
    assert_same_run(one.path, two.path)


@pytest.mark.parametrize("more", [(), ("agent.clone_steps=300",)], ids=["plain", "cloned"])
@pytest.mark.parametrize("agent", BUILT_IN)
def test_a_run_of_a_population_is_that_run_alone(agent, more, tmp_path):
    first = job(tmp_path / "first", agent, *more)
    others = [variant(first, tmp_path / f"s{k}", f"seed={k}") for k in range(3)]
    assert len({one.signature for one in others}) == 1
    train(*others)
    alone = dataclasses.replace(others[1], path=tmp_path / "alone")
    train(alone)
    assert_same_run(alone.path, others[1].path)
    assert (progress(alone.path)["stage"] == "clone").sum() == (2 if more else 0)


@pytest.mark.parametrize(("more", "at"), [((), 2), (("agent.clone_steps=512",), 1), (("agent.clone_steps=512",), 2)])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(more, at, tmp_path, monkeypatch):
    whole, cut = job(tmp_path / "whole", "ppo", *more), job(tmp_path / "cut", "ppo", *more)
    train(whole)
    train_until(cut, at, monkeypatch)
    assert status(cut.path) == "running"
    assert [o.status for o in train(cut)] == ["complete"]
    assert_same_run(whole.path, cut.path)


@pytest.mark.parametrize(
    "more",
    [
        ("env.reward=mse", "env.action=de", "env.action_size=5"),
        ("env.reward=ot", "env.action=genes", "env.state=genes"),
        ("env.reward=energy", "env.residual=bilinear", "env.horizon=1"),
        ("policy.net=branches", "env.residual=train_mean"),
        ("split=iid_cells", "description.kinds=[one_hot]"),
    ],
)
def test_other_choices_train_and_are_evaluated(more, tmp_path):
    one = job(tmp_path, "ppo", "schedule.total=512", *more)
    assert [o.status for o in train(one)] == ["complete"]
    Evaluator().evaluate(one.path)
    rows, residual = summary(one.path)["rows"], one.config.env.residual
    assert rows["policy"]["pds_cosine"] is not None
    # what episodes begin with earns its own error, on conditions drawn for an evaluation
    start = rows["no_change" if residual == "none" else residual]
    assert start["return_normalised"] <= rows["best_actions"]["return_normalised"] + 1e-6
    assert start["mean_abs_action"] == 0 and (residual == "none") == (start["train_return_normalised"] == 0)


def test_a_diverged_policy_keeps_its_row_without_numbers(finished, tmp_path):
    one = dataclasses.replace(finished, path=tmp_path / "run")
    one.path.mkdir()
    for name in (paths.CONFIG, paths.CHECKPOINT):
        (one.path / name).write_bytes((finished.path / name).read_bytes())
    run = records.read_json(finished.path / paths.RUN)
    records.write_json(one.path / paths.RUN, run | {"status": "diverged"})
    Evaluator().evaluate(one.path)
    said = summary(one.path)
    assert said["rows"]["policy"]["pds_cosine"] is None and said["rows"]["policy"]["return"] is None
    assert said["rows"]["bilinear"] == pytest.approx(summary(finished.path)["rows"]["bilinear"], nan_ok=True)


def test_an_export_is_read_back_and_scores_as_the_policy(finished, tmp_path):
    import anndata

    file = finished.path / "evaluation" / "predictions.h5ad"
    table = load_cells(finished)
    adata = anndata.read_h5ad(file)
    assert list(adata.var_names) == list(table.screen.features)
    assert adata.obs_names.is_unique and adata.X.dtype == np.float32 and (adata.X.data >= 0).all()
    assert adata.X.data.max() <= table.screen.x.data.max() + np.log(2) + 1e-4
    assert set(adata.obs.perturbation[adata.obs.is_control]) == {"control"}
    tests = {table.screen.conditions[c].name for c in table.conditions_of(table.split.test)}
    assert set(adata.obs.condition) == tests | {"control"}
    before = summary(finished.path)["rows"]
    Evaluator(["baseline=predictions", f"path={file}"]).evaluate(finished.path)
    after = summary(finished.path)["rows"]
    assert after.keys() == {*before, "predictions:predictions"}
    for name in COLUMNS:
        for kind in ("", "median/", "resistant/", "calibrated/"):
            assert after["predictions:predictions"][kind + name] == after["policy"][kind + name], kind + name
            assert after["policy"][kind + name] == before["policy"][kind + name]


def test_the_command_line_from_training_to_report(run, tmp_path, no_figures):
    words = asked("trpo_ppo", "seed=range(2)", "schedule.trpo=256", "schedule.ppo=256")
    code, _, err = run("train", "-m", *words, "hydra/launcher=population", "hydra.launcher.workers=1")
    assert code == 0, err
    code, _, err = run("evaluate", "outputs", "protocol.n_cells=5", "protocol=counterfactual")
    assert code == 0 and err.count("evaluated") == 2
    assert all(summary(f.parent)["n_control_cells"] == 5 for f in tmp_path.rglob("run.json"))
    code, _, err = run("report", "outputs")
    assert code == 0, err
    assert (tmp_path / "outputs" / "report").is_dir()


# --- what a user can get wrong

WRONG = [
    (("split=cells",), "split=cells: holds out cells, not perturbations; choose split=unseen_single"),
    (("encoder=pca",), "encoder=pca: split=unseen_single predicts features as they are measured; choose encoder=none"),
    (("protocol.n_cells=0",), "protocol.n_cells: must be all, or a number from 1 up, got 0"),
    (("protocol.episodes=0",), "protocol.episodes: must be at least 1 and at most 1000000, got 0"),
    (("protocol.success=1.5",), r"protocol.success: must be above 0 and at most 1, got 1.5"),
]


@pytest.mark.parametrize(("more", "said"), WRONG)
def test_choices_that_do_not_go_together(more, said, tmp_path):
    with pytest.raises(UserError, match=said):
        job(tmp_path, "ppo", *more)


def test_choices_of_the_other_task_that_do_not_go_together(tmp_path):
    for more, said in (
        (["split=unseen_single"], "holds out perturbations, but protocol=paper scores cells"),
        (["env=counterfactual", "protocol=paper"], "env=counterfactual: split=unseen_single holds out perturbations"),
        (["conditions=auto"], "split=cells: holds out cells and reads no conditions"),
        (
            ["protocol=counterfactual", "split=unseen_single"],
            "env=paper predicts no perturbation; choose protocol=paper",
        ),
    ):
        with pytest.raises(UserError, match=said):
            compose_job(more, tmp_path, "tiny")


@pytest.mark.parametrize("agent", BUILT_IN)
def test_a_task_that_demonstrates_nothing_cannot_be_cloned(agent, run, tmp_path):
    code, _, err = run("train", *small(agent), "agent.clone_steps=256")
    assert code == 2
    assert err.splitlines()[-1].startswith("error: agent.clone_steps: this task demonstrates no actions; set it to 0")


def test_evaluation_of_wrong_files_and_settings(finished, tmp_path):
    for given, said in (
        (["baseline=predictions"], "the two go together"),
        (["path=x.h5ad"], "the two go together"),
        (["baseline=gears", "path=x.h5ad"], "baseline: 'gears' is not known; choose predictions"),
        (["agent=trpo"], r"agent=trpo: only protocol\.\* can be changed"),
        (["protocol=mine"], "protocol: 'mine' is not known"),
    ):
        with pytest.raises(UserError, match=said):
            Evaluator(given)
    with pytest.raises(UserError, match=r"protocol=paper does not fit; this run is for protocol=counterfactual"):
        Evaluator(["protocol=paper"]).evaluate(finished.path)
    with pytest.raises(UserError, match="no such file"):
        Evaluator(["baseline=predictions", f"path={tmp_path / 'none.h5ad'}"]).evaluate(finished.path)
    with pytest.raises(UserError, match="protocol.ncells: unknown key"):
        Evaluator(["protocol.ncells=3"]).evaluate(finished.path)


def test_completion_follows_the_choices_of_the_task():
    roots = conf_tree.conf_dirs()
    plain, found = conf_tree.keys(roots), conf_tree.keys(roots, {"env": "counterfactual"})
    own = {
        "conditions.min_cells",
        "description.kinds",
        "protocol.score.alpha",
        "split.validation_fraction",
        "env.reward",
    }
    assert own <= set(found) and not own & set(plain)
    assert found["encoder.name"] == "none" and "protocol.return_episodes" not in found
    chosen = conf_tree.keys(roots, {"env": "counterfactual", "split": "unseen_context"})
    assert "split.few_shot" in chosen and "split.test_fraction" not in chosen
    assert "description.kinds" in conf_tree.keys(roots, {"experiment": "counterfactual"})


def test_from_python(tmp_path):
    from perturbrl import api

    words = [o.partition("=") for o in asked() if not o.startswith(("agent=", "progress="))]
    given = {key: yaml.safe_load(value) for key, _, value in words} | {"schedule.total": 256}
    runs = api.train(overrides=given, seeds=2, out=tmp_path)
    table = runs.table()
    assert {"policy", "train_mean", "technical_duplicate"} <= set(table.index)
    assert table.loc["no_change", "pds_cosine"] == 0.5
    config, cells = runs.jobs[0].config.env, runs.cells
    env = registry.envs["counterfactual"].build([config], cells, cells.split.control_train, 3, "cpu")
    assert runs.policy(1)(torch.zeros(3, env.obs_dim)).shape == (3, env.action_space.size)


@pytest.mark.slow
@pytest.mark.real_data
def test_papalexi_from_cells_to_table(real_data, run, tmp_path):
    file = real_data / "perturb_papalexi21_thp1" / "papalexi21_thp1.h5ad"
    if not file.is_file():
        pytest.skip(f"no {file.name} among the real data")
    words = ("env=counterfactual", "source=file", f"path={file}", "conditions=papalexi", "split=unseen_single")
    budget = ("schedule.trpo=2048", "schedule.ppo=4096", "agent=trpo_ppo", "progress=quiet", "curve_points=2")
    assert run("train", *words, *budget)[0] == 0
    assert run("evaluate", "outputs")[0] == 0
    said = summary(next(tmp_path.rglob("run.json")).parent)
    assert said["header"]["n_test"] >= 5 and said["rows"]["technical_duplicate"]["pds_cosine"] > 0.5
    assert said["rows"]["no_change"]["mse_norm"] == pytest.approx(1, abs=0.03)
