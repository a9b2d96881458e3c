from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from fakes.runs import METRICS, make_run
from rich.console import Console

from perturbrl.metrics_info import PAPER_COLUMNS
from perturbrl.report import published, render
from perturbrl.report.collect import collect
from perturbrl.report.console import console
from perturbrl.report.paper import LATER, build_tables, section
from perturbrl.report.paper import PaperTable as Table
from perturbrl.report.text import spell
from perturbrl.report.verdict import released, true_task


def tables(root: Path) -> list[Table]:
    return build_tables(collect([root]))


def test_published_rows_are_complete_and_keep_their_identities() -> None:
    for data in ("joint", "rna", "atac"):
        for agent in ("ppo", "trpo", "trpo_ppo"):
            values = published.values(data, agent)
            assert tuple(values) == METRICS
            assert values["recall"] == values["accuracy"]  # weighted recall is accuracy
            assert (values["accuracy"] * 30 * (64 if data == "joint" else 32)) % 1 == pytest.approx(0, abs=1e-6) or (
                values["accuracy"] * 30 * (64 if data == "joint" else 32)
            ) % 1 == pytest.approx(1, abs=1e-6)  # a count of cells x features
            assert values["rmse"] ** 2 <= values["mse"]  # Jensen: a mean of roots against the root of a mean
        assert set(published.values(data, "ppo", later=True)) == {"accuracy", "mse", "r2"}
        assert published.steps(data, "ppo") / published.steps(data, "trpo_ppo") == pytest.approx(16.3, abs=0.01)  # type: ignore[operator]
    assert published.values("cite", "ppo") == {} and published.steps("rna", "other") is None


def test_floors_come_first_and_agents_in_the_paper_s_order(tmp_path: Path) -> None:
    for agent in ("zz", "trpo_ppo", "trpo", "ppo"):
        make_run(tmp_path, agent)
    [table] = tables(tmp_path)
    labels = [row.label for row in table.rows]
    assert labels == ["do_nothing", "random_sign", "random_uniform", "best_constant", "ppo", "trpo", "trpo_ppo", "zz"]
    assert table.title.startswith("Table II (rna): landscape")


def test_each_data_set_task_and_schedule_has_its_own_table(tmp_path: Path) -> None:
    for data in ("rna", "atac", "joint"):
        make_run(tmp_path, data=data)
        make_run(tmp_path, data=data, source="bmmc", said={"source_choice": "file", "compare_published": True})
    make_run(tmp_path, env="paper,max_perturb=4")
    make_run(tmp_path, name="even", said={"schedule": "equal"})
    titles = [table.title for table in tables(tmp_path)]
    assert len(titles) == len(set(titles)) == 8
    ours = [t.split(":")[0] for t in titles if "landscape · fabricated" in t]
    assert ours == ["Table I (joint)", "Table II (rna)", "Table III (atac)"]
    assert titles.index("Table III (atac): landscape · fabricated") < titles.index("Table I (joint): bmmc · fabricated")


def test_means_intervals_and_differences(tmp_path: Path) -> None:
    for seed, mse in enumerate((0.1, 0.2, 0.6)):
        make_run(tmp_path, seed=seed, values={"mse": mse})
    [table] = tables(tmp_path)
    [row] = table.agents
    half = 4.302652729911275 * np.std([0.1, 0.2, 0.6], ddof=1) / math.sqrt(3)  # t(2) at 97.5 %
    assert row.cell("mse").mean == pytest.approx(0.3)
    assert row.cell("mse").half == pytest.approx(half)
    assert row.difference("mse") == pytest.approx(0.3 - published.values("rna", "ppo")["mse"])
    assert row.difference("return_gain") is None


def test_floors_count_a_seed_once(tmp_path: Path) -> None:
    for agent in ("ppo", "trpo"):
        for seed in (0, 1):
            make_run(tmp_path, agent, seed=seed)
    [table] = tables(tmp_path)
    assert [row.n for row in table.floors] == [2] * 4


def test_within_counts_what_a_loop_counts(tmp_path: Path) -> None:
    theirs = published.values("rna", "ppo")
    gaps = (0.0, 0.04, -0.05, 0.051, -0.1, 0.2, 0.3, 0.0, 0.05, 0.11)
    make_run(tmp_path, values={m: theirs[m] + gap for m, gap in zip(METRICS, gaps, strict=True)})
    make_run(tmp_path, "other")
    within = tables(tmp_path)[0].within
    assert (within.cells, within.by_005, within.by_010, within.agents) == (10, 5, 7, ("ppo",))


def test_nothing_published_for_other_tasks_and_data(tmp_path: Path) -> None:
    make_run(tmp_path, env="fate")
    make_run(tmp_path, data="cite")
    for table in tables(tmp_path):
        assert table.within.cells == 0 and not table.agents[0].published
        assert table.title.startswith("Table (")


@pytest.mark.parametrize("stem", ["pbmc_joint", "landscape"])  # a file may be called anything
def test_nothing_published_beside_other_cells_unless_asked_for(tmp_path: Path, stem: str) -> None:
    own = {"source_choice": "file", "compare_published": False}
    make_run(tmp_path, data="joint", source=stem, name="mine", said=own)
    make_run(tmp_path, data="joint", source=stem, name="asked", said=own | {"compare_published": True})
    make_run(
        tmp_path, data="joint", source="pbmc10k_multiome", name="study", said={"source_choice": "pbmc10k_multiome"}
    )
    found = {table.runs.iloc[0]["name"]: section(table) for table in tables(tmp_path)}
    for name in ("asked", "study"):
        text = render.markdown(found[name])
        assert found[name].title.startswith("Table I (joint)")
        assert "*published*" in text and "Of 10 published cells" in text
    text = render.markdown(found["mine"])
    assert found["mine"].title.startswith("Table (joint)")
    assert "*published*" not in text and "*difference*" not in text and "Of 10 published" not in text
    assert "these are not the study's cells" in text
    assert all(line[8] is None for line in list(found["mine"].values)[1:])  # the CSV neither


def test_what_doing_nothing_reaches_is_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, said={"encoder": "none"})
    make_run(tmp_path, name="perfect", said={"encoder": "random_gat"})
    file = run / "evaluation" / "summary.json"
    summary = json.loads(file.read_text())
    summary["rows"]["do_nothing"] |= {"r2": 0.953, "pearson": 0.9871}  # cells beyond the clip of the protocol
    file.write_text(json.dumps(summary))
    found = {table.runs.iloc[0]["name"]: "\n".join(table.footer) for table in tables(tmp_path)}
    clipped, perfect = found["fabricated"], found["perfect"]
    assert "Doing nothing is perfect in 8 of ten columns (R² 0.953, Pearson 0.987)." in clipped
    assert "Doing nothing is perfect in all ten columns." in perfect
    assert "random projections" in perfect and "random projections" not in clipped


def test_nothing_published_beside_a_changed_task(tmp_path: Path) -> None:
    make_run(tmp_path, env="paper,max_perturb=4")
    make_run(tmp_path, env="paper,protocol.return_episodes=8")  # the ten metrics know nothing of it
    changed, same = sorted(tables(tmp_path), key=lambda table: "return_episodes" in table.title)
    assert changed.within.cells == 0 and changed.title.startswith("Table (rna)")
    assert same.within.cells == 10 and same.title.startswith("Table II (rna)")


@pytest.mark.parametrize(
    ("key", "usual", "other"), [("n_cells", 30, 2000), ("clip", 5.0, 2.0), ("discrete_step", 0.25, 1)]
)
def test_other_settings_of_the_evaluation_are_another_table(
    tmp_path: Path, key: str, usual: float, other: float
) -> None:
    for seed, value in ((0, usual), (1, usual), (2, other)):
        make_run(tmp_path, seed=seed, summary={key: value, "evaluation_seed": 0})
    make_run(tmp_path, seed=3, status="diverged")  # never evaluated: stays with its sweep
    most, one = sorted(tables(tmp_path), key=lambda table: table.agents[0].n, reverse=True)
    assert (most.agents[0].n, most.agents[0].diverged, one.agents[0].n) == (2, 1, 1)
    assert most.slug != one.slug
    assert f"{key}={usual}" in most.title and f"{key}={other}" in one.title
    assert any("evaluation_seed=0" in line for line in most.footer)


def test_equal_schedule_shows_the_later_run(tmp_path: Path) -> None:
    make_run(tmp_path, said={"schedule": "equal"})
    [table] = tables(tmp_path)
    assert "0.575" in render.markdown(section(table)).split(LATER)[1].splitlines()[0]


def test_a_diverged_seed_is_marked_and_not_in_the_mean(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, seed=seed, values={"mse": 0.5})
    make_run(tmp_path, seed=2, status="diverged")
    make_run(tmp_path, "trpo", seed=0, status="diverged")
    [table] = tables(tmp_path)
    ppo, trpo = table.agents
    assert ppo.cell("mse").mean == 0.5 and ppo.n == 2 and trpo.n == 0
    for text in (render.markdown(section(table)), render.latex(section(table)), shown(table, 160)):
        assert "diverged (1 of 3 seeds)" in text and "diverged (1 of 1 seeds)" in text
    assert "nan" not in render.markdown(section(table)) + render.latex(section(table)) + render.csv_text(section(table))


def shown(table: Table, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(console([section(table)]))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_console_never_cuts_a_number(tmp_path: Path, width: int) -> None:
    for seed in (0, 1):
        for agent in ("ppo", "trpo_ppo"):
            make_run(tmp_path, agent, seed=seed)
    [table] = tables(tmp_path)
    text = shown(table, width)
    assert "…" not in text and max(len(line.rstrip()) for line in text.splitlines()) <= width
    for row in table.rows:
        for metric, interval in row.cells.items():
            assert spell(interval.mean, PAPER_COLUMNS[metric].digits, signed=metric == "return_gain") in text


def test_csv_has_full_precision(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    [table] = tables(tmp_path)
    values = json.loads((run / "evaluation/summary.json").read_text())["rows"]["policy"]
    lines = [line for line in csv.DictReader(io.StringIO(render.csv_text(section(table)))) if line["row"] == "ppo"]
    assert {line["metric"]: float(line["mean"]) for line in lines} == values
    assert {line["low"] for line in lines} == {""}  # one seed
    for line in lines[:10]:
        gap = values[line["metric"]] - float(line["published"])
        assert float(line["difference"]) == pytest.approx(gap, abs=1e-15)


def test_markdown_is_rectangular_and_footer_says_all(tmp_path: Path) -> None:
    make_run(tmp_path)
    [table] = tables(tmp_path)
    text = render.markdown(section(table))
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")}
    assert widths == {14}
    for said in ("landscape-rna", "released", "1,001,472", "Seeds: 1 (0)", "no interval", "n = 30", "standardised over",
                 "not a measure of prediction", "recall equals accuracy"):  # fmt: skip
        assert said in text


def test_latex_is_balanced_ascii_and_escaped(tmp_path: Path) -> None:
    make_run(tmp_path, "odd_agent", name="50%_&_more", source="a_b", said={"leaks": ["x < y & {z} ~ 5^2 #1"]})
    [table] = tables(tmp_path)
    text = render.latex(section(table))
    assert text.isascii() and text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {12}
    assert r"odd\_agent" in text and r"50\%\_\&\_more" in text


@pytest.mark.parametrize(
    ("mine", "other", "answer"),
    [
        ((0.1, 0.11, 0.12), (0.5, 0.5, 0.55), "Yes"),
        ((0.5, 0.5, 0.55), (0.1, 0.11, 0.12), "No"),
        ((0.1, 0.5, 0.9), (0.2, 0.6, 0.7), "Open"),
    ],
)
def test_released_verdict(tmp_path: Path, mine: tuple[float, ...], other: tuple[float, ...], answer: str) -> None:
    for seed in range(3):
        make_run(tmp_path, "trpo_ppo", seed=seed, values={"mse": mine[seed]})
        make_run(tmp_path, "ppo", seed=seed, values={"mse": other[seed]})
    assert released(tables(tmp_path)[0]).answer == answer


def test_to_win_the_task_is_to_beat_doing_nothing(tmp_path: Path) -> None:
    make_run(tmp_path, "trpo_ppo", values={"return_gain": -1.0})
    make_run(tmp_path, "ppo", values={"return_gain": -5.0})
    verdict = true_task(tables(tmp_path)[0])
    assert verdict.answer == "No" and "worse than doing nothing" in verdict.why
    assert "no interval" in verdict.why


def test_no_verdict_without_the_proposed_agent_or_without_another(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "ppo")
    make_run(tmp_path / "b", "trpo_ppo")
    assert {released(t).answer for t in tables(tmp_path)} == {"Open"}


def test_decimals_and_signs() -> None:
    assert spell(-0.0001) == "0.000"
    assert spell(-0.0001, signed=True) == "0.000"
    assert spell(-1.006, 2, signed=True) == "\N{MINUS SIGN}1.01"
    assert spell(0.25, signed=True) == "+0.250"
    assert spell(math.nan) == "\N{EN DASH}"


def test_seeds_that_diverged_do_not_vanish_from_the_verdict(tmp_path: Path) -> None:
    for seed in range(10):
        status = "diverged" if seed >= 3 else "complete"
        won = {"mse": 0.1 + 0.001 * seed, "return_gain": 5.0 + 0.01 * seed}
        make_run(tmp_path, "trpo_ppo", seed=seed, status=status, values=won)
        make_run(tmp_path, "ppo", seed=seed, values={"mse": 0.5 + 0.002 * seed, "return_gain": 1.0})
    [table] = tables(tmp_path)
    for verdict in (released(table), true_task(table)):
        assert verdict.answer == "Open"
        assert "Runs counted: trpo_ppo 3 of 10 (7 diverged), of the others all." in verdict.why


def test_an_agent_is_not_beaten_by_the_seeds_that_another_finished(tmp_path: Path) -> None:
    for seed in range(6):
        make_run(tmp_path, "trpo_ppo", seed=seed, values={"mse": 0.5 + 0.001 * seed})
        status = "diverged" if seed >= 3 else "complete"
        make_run(tmp_path, "ppo", seed=seed, status=status, values={"mse": 0.1 + 0.002 * seed})
    assert released(tables(tmp_path)[0]).answer == "Open"
    for seed in range(6):
        make_run(tmp_path, "trpo", seed=seed, values={"mse": 0.2 + 0.003 * seed})
    assert released(tables(tmp_path)[0]).answer == "No"


@pytest.mark.parametrize("agent", ["ppo", "trpo_ppo"])
def test_runs_without_an_evaluation_do_not_vanish_from_the_verdict(tmp_path: Path, agent: str) -> None:
    for seed in range(5):
        make_run(tmp_path, "trpo_ppo", seed=seed, values={"mse": 0.1 + 0.001 * seed})
        make_run(tmp_path, "ppo", seed=seed, values={"mse": 0.5 + 0.002 * seed})
    assert released(tables(tmp_path)[0]).answer == "Yes"
    make_run(tmp_path, agent, seed=5, evaluated=False)
    [table] = tables(tmp_path)
    verdict = released(table)
    assert verdict.answer == "Open" and f"Runs counted: {agent} 5 of 6 (1 not evaluated)" in verdict.why
    assert f"{agent}: 1 of 6 runs have no evaluation and are not counted." in section(table).notes
