"""``perturbrl reproduce``, small: nine runs, three tables, one page."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.report import reference
from perturbrl.runner import judge
from perturbrl.runner import reproduce as reproduction
from perturbrl.runner.hydra.compose import compose_config, compose_job
from perturbrl.runner.reproduce import ARMS, QUICK, SCHEDULES, TABLES, _quick_budgets, reproduce
from perturbrl.runner.sweep import Sweep

from .tiny import SMALL, assert_same_run, status

# one rollout of 2048 steps for each stage, two for PPO and TRPO; the task as published, or no published value stands
# beside a run
BUDGETS = ("schedule.total=4096", "schedule.trpo=2048", "schedule.ppo=2048")
LITTLE = [*(o for o in SMALL if not o.startswith(("schedule.", "progress=", "env."))), *BUDGETS]


def all_runs(out: Path) -> list[Path]:
    return sorted(file.parent for file in out.rglob(paths.RUN))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reproduce")
    return reproduce(out=out, overrides=LITTLE, progress="quiet", workers=1)


def test_three_tables_with_floors_and_published_values(page: Path) -> None:
    report = page.parent
    assert (report.name, report.parent.name, page.name) == ("report", "released", "report.html")
    text = (report / "tables.md").read_text()
    assert all(f"Table {title}" in text for title in ("I (joint)", "II (rna)", "III (atac)"))
    assert len(list((report / "tables").glob("*.csv"))) == len(list((report / "tables").glob("*.tex"))) == 3
    for word in ("do_nothing", "random_uniform", "best_constant", *ARMS, "0.903", "published"):
        assert word in text, word
    assert len(list((report / "figures").glob("*.png"))) >= 3
    html = page.read_text()
    assert all(f"Table {n} (" in html for n in ("I", "II", "III"))
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=.http", html)  # the page needs no other file


def test_nine_runs_each_with_its_budget_and_evaluation(page: Path) -> None:
    runs = all_runs(page.parents[1])
    said = [records.read_json(run / paths.RUN) for run in runs]
    assert {(s["data"], s["agent"]) for s in said} == {(table, arm) for table in TABLES for arm in ARMS}
    assert len(said) == 9 and {s["status"] for s in said} == {"complete"}
    assert {s["steps"] for s in said} == {4096}
    assert {s["preset"] for s in said} == {"released"} and all(s["leaks"] for s in said)
    assert all((run / paths.EVALUATION / paths.SUMMARY).exists() for run in runs)


def test_the_same_command_again_skips_every_run(page: Path, run, no_figures) -> None:
    stamps = [(r / paths.CHECKPOINT).stat().st_mtime_ns for r in all_runs(page.parents[1])]
    page.unlink()
    code, out, err = run("reproduce", "--out", str(page.parents[2]), "--workers", "1", *LITTLE)
    assert code == 0
    assert err.count("skipped: already complete") == 9
    assert [(r / paths.CHECKPOINT).stat().st_mtime_ns for r in all_runs(page.parents[1])] == stamps
    assert page.exists() and str(page) in out.replace("\n", "")
    assert all(out.count(f"Table {n} (") == 2 for n in ("I", "II", "III"))  # the table, and its verdict
    _, verdicts = out.split("did trpo_ppo win?")
    assert len(re.findall(r"(Yes|No|Open) +(Yes|No|Open) +\d+ of 30 +\d+ of 30", verdicts)) == 3


@pytest.mark.slow
def test_processes_and_seeds(page: Path, tmp_path: Path) -> None:
    """Two processes and two seeds at a time; the first seed's runs are those of one seed alone."""
    reproduce(seeds=2, out=tmp_path, overrides=[*LITTLE, "data=rna,atac"], progress="quiet", workers=2)
    mine = all_runs(tmp_path)
    assert len(mine) == 12
    for one in all_runs(page.parents[1]):
        if "joint" not in str(one):
            assert_same_run(tmp_path / one.relative_to(page.parents[2]), one)


def test_an_arm_that_fails_is_told_in_one_line_and_the_others_are_kept(tmp_path: Path, run, no_figures) -> None:
    rna_only = [o for o in LITTLE if not o.startswith("source.")] + ["source=pbmc68k_reduced", "data=rna,joint"]
    command = ("reproduce", "--out", "out", "--workers", "1", *rna_only)
    code, _, err = run(*command)
    last = err.splitlines()[-1]
    assert code == 2
    assert last.startswith("error: 3 of 6 runs failed; first: ") and "has no atac" in last
    done = all_runs(Path("out"))
    assert len(done) == 3 and all(status(r) == "complete" for r in done)
    for one in done:  # a line when it starts and one when it ends; what they share is printed once
        assert re.search(rf"^{one}: training, 4,096 steps\n(?s:.*)^{one}: done \([1-6] of 6\)$", err, re.MULTILINE)
    notices = [line for line in err.splitlines() if line.startswith("data.preset=released: ")]
    assert len(notices) == len(set(notices)) == 3
    code, _, err = run(*command)
    assert code == 2 and err.count("skipped: already complete") == 3


def test_one_table_only(tmp_path: Path, no_figures) -> None:
    page = reproduce(out=tmp_path, overrides=[*LITTLE, "data=rna"], progress="quiet", workers=1)
    assert len(all_runs(tmp_path)) == 3
    assert "Table II (rna)" in page.read_text()
    assert "Table I (joint)" not in page.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--schedule", "relaxed"), "--schedule: 'relaxed' is not known"),
        (("data=genes",), "'genes' is not known"),
        (("agent.nonsense=1",), "agent.nonsense: unknown key"),
        (("env.max_perturb=0",), "env.max_perturb"),
        (("nonsense",), "nonsense"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str, run) -> None:
    code, _, err = run("reproduce", "--workers", "1", "--out", "out", *LITTLE, *words)
    assert code == 2
    assert message in err.splitlines()[-1] and err.splitlines()[-1].startswith("error: ")
    assert not all_runs(Path("out"))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_quick_keeps_the_ratios_of_a_schedule(schedule: str) -> None:
    whole = compose_config([f"schedule={schedule}"]).schedule
    quick = compose_config([f"schedule={schedule}", *_quick_budgets(schedule)]).schedule
    for key in ("total", "trpo", "ppo"):
        assert quick[key] == max(2048, whole[key] // QUICK)
    assert quick.name == f"{schedule}-quick"


def test_the_experiment_is_the_same_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``experiment=tables`` sweeps over the same agents, tables and seeds, and every run has the same config."""
    wanted: dict[tuple[str, str], str] = {}

    def stop(composed, progress, workers):
        wanted.update({(job.config.data.name, job.config.agent.name): job.hash for job in (c.job() for c in composed)})
        raise UserError("composed")

    monkeypatch.setattr(reproduction, "sweep_all", stop)
    with pytest.raises(UserError, match="composed"):
        reproduce(out=tmp_path, progress="quiet")
    params = compose_config(["experiment=tables"]).hydra.sweeper.params
    assert set(params) == {"agent", "data", "seed"} and params.seed == "range(5)"
    assert set(itertools.product(params.data.split(","), params.agent.split(","))) == set(wanted)
    for (data, agent), config_hash in wanted.items():
        job = compose_job(["experiment=tables", f"data={data}", f"agent={agent}", "seed=0"], tmp_path, "any")
        assert job.hash == config_hash, (data, agent)


def fabricated_reference(page: Path, file: Path, shift: float = 0.0) -> Path:
    """FABRICATED: the values of these runs as those of three seeds, with a spread of a hundredth."""
    scores = reference.scores_of([page.parents[1]])
    values = {key: {k: v[0] + shift + 0.01 * k for k in range(3)} for key, v in scores.values.items()}
    reference.write(dataclasses.replace(scores, values=values), file)
    return file


def test_check_agrees_or_fails_with_what_drifted(page: Path, tmp_path: Path, run, no_figures) -> None:
    command = ("reproduce", "--out", str(page.parents[2]), "--workers", "1", *LITTLE)
    code, out, err = run(*command, "--reference", str(fabricated_reference(page, tmp_path / "near.json")))
    n_values = 3 * 7 * 12
    assert code == 0 and f"{n_values} of {n_values} values agree with the reference landscape, schedule released" in out
    assert "9 of 9 runs are from before" in err  # a check of old runs says so
    found = records.read_json(page.parent / "check.json")
    assert found["agrees"] is True and len(found["values"]) == n_values
    code, out, err = run(*command, "--reference", str(fabricated_reference(page, tmp_path / "far.json", shift=5.0)))
    assert code == 1 and err.splitlines()[-1].startswith("error: the tables have drifted from the reference")
    drifted = [line for line in out.splitlines() if line.startswith("drift: ")]
    found = records.read_json(page.parent / "check.json")
    assert len(drifted) == len(found["drifted"]) == n_values and found["agrees"] is False
    assert any(line.startswith("drift: Table II (rna), ppo, MSE: ") for line in drifted)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("source.n_cells=300",), "source.n_cells: 300, the reference has 10000"),
        (("data.n_features.rna=100",), "data.n_features: "),
        (("--schedule", "text"), "schedule: text"),
        (("source=pbmc68k_reduced", "data=rna"), "source: pbmc68k_reduced"),
    ],
)
def test_check_without_a_reference_is_refused_before_training(words: tuple[str, ...], message: str, run) -> None:
    code, _, err = run("reproduce", "--quick", "--check", "--out", "out", *words)
    last = err.splitlines()[-1]
    assert code == 2 and last.startswith("error: --check: no reference for ") and message in last
    assert "perturbrl report FOLDER --reference FILE" in last
    assert not all_runs(Path("out"))


@pytest.mark.slow
@pytest.mark.parametrize(("change", "code"), [("kernels=torch", 0), ("policy.hidden=[8]", 1)])
def test_other_rounding_passes_the_quick_check_and_a_tiny_network_fails(
    change: str, code: int, run, no_figures
) -> None:
    """The torch kernels round as another processor might: after thousands of updates the policies differ."""
    found, out, _ = run("reproduce", "--quick", "--check", "--out", "out", "data=rna", change)
    assert found == code, out
    assert ("drift: " in out) == (code == 1)


def test_quick_says_so_and_goes_to_a_folder_of_its_own(run, monkeypatch) -> None:
    seen: list[Path] = []

    class Evaluator:
        def evaluate(self, path: Path) -> None:
            seen.append(path)

    def refuse(where: list[Path], out: Path) -> None:
        raise UserError(str(out))

    def no_training(composed, progress, workers):
        return Sweep(tuple(one.job() for one in composed), ())

    monkeypatch.setattr(reproduction, "sweep_all", no_training)
    monkeypatch.setattr(judge, "Evaluator", Evaluator)
    monkeypatch.setattr(judge, "build_report", refuse)
    code, _, err = run("reproduce", "--quick", "--out", "here", "data=rna,atac")
    assert code == 2 and "error: here/released-quick/report" in err
    assert "quick: " in err and "16th" in err
    assert len(seen) == 6
    assert all("total" not in str(path) for path in seen)  # what --quick stands for is not spelled in every folder
