"""What README and docs print of results is what docs/results holds; ``make results`` makes both of finished runs."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fakes.runs import make_run
from fakes.screen_runs import make_screen_run

from perturbrl.metrics_info import row_info

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README, PAPER_PAGE, HELD_OUT_PAGE = ROOT / "README.md", DOCS / "results.md", DOCS / "results_counterfactual.md"
PAGES = (README, PAPER_PAGE, HELD_OUT_PAGE)
GENERATED = re.compile(r"^<!-- results .*?^<!-- /results -->$", re.MULTILINE | re.DOTALL)
MINUS = "\N{MINUS SIGN}"
AGENTS = ("ppo", "trpo", "trpo_ppo")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """docs/make_results.py with its two modules, imported as the command does."""
    for name in ("make_results", "results", "results.collect", "results.pages"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(DOCS)
    import make_results

    return make_results


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def landscape(table: str) -> list[dict[str, str]]:
    return [line for line in lines(DOCS / "results" / "paper" / "landscape.csv") if f"({table})" in line["table"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_the_files_hold(page: Path, scripts: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    names = scripts.pages.names(text)
    assert names and len(set(names)) == len(names) == text.count("<!-- results ")
    assert text == scripts.pages.updated(text), "run: python docs/make_results.py --render"


def test_a_number_changed_by_hand_is_found(scripts: ModuleType) -> None:
    text = README.read_text(encoding="utf-8")
    number = re.search(r"\| PPO, [^|]*\| (0\.\d{3})", text)
    assert number
    other = text.replace(number[1], f"{float(number[1]) + 0.01:.3f}")
    assert other != text and scripts.pages.updated(other) == text


def test_the_readme_table_is_the_csv() -> None:
    """Read the numbers of README without the code that wrote them."""
    (table,) = re.findall(r"<!-- results readme/table -->\n(.*?)<!-- /results -->", README.read_text(), re.DOTALL)
    head, _, *body = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    columns = ("accuracy", "f1", "auprc", "mse", "r2", "pearson", "mean_abs_action", "return_gain")
    assert len(head) == 1 + len(columns) and len(body) == 2 + 2 * len(AGENTS)
    stored = {(line["row"], line["metric"]): line for line in landscape("joint")}
    names = {"doing nothing": "do_nothing", "random actions": "random_uniform", "PPO": "ppo", "TRPO": "trpo"}
    names["TRPO→PPO"] = "trpo_ppo"
    seen, row = 0, ""
    for label, *cells in body:
        published = label == "*published*"
        row = row if published else names[label.strip("*").split(",")[0]]
        for metric, cell in zip(columns, cells, strict=False):
            shown = re.match(rf"[+{MINUS}]?[\d.]+", cell.strip("*| "))
            if shown:
                value = float(stored[row, metric]["published" if published else "mean"])
                digits = len(shown[0].partition(".")[2])
                assert float(shown[0].replace(MINUS, "-")) == pytest.approx(value, abs=0.51 * 10**-digits), label
                seen += 1
    assert seen == 5 * len(columns) + 6 * len(AGENTS)


def test_the_counts_of_all_three_tables_are_those_of_the_csv() -> None:
    (text,) = re.findall(r"<!-- results readme/counts -->\n(.*?)<!-- /results -->", README.read_text(), re.DOTALL)
    page = PAPER_PAGE.read_text(encoding="utf-8")
    counts: dict[float, list[int]] = {0.05: [], 0.10: []}
    for table in ("joint", "rna", "atac"):
        gaps = [abs(float(line["difference"])) for line in landscape(table) if line["difference"]]
        assert len(gaps) == 30
        for limit, found in counts.items():
            found.append(sum(gap <= limit for gap in gaps))
        near, wide = (found[-1] for found in counts.values())
        section = page.partition(f"({table}): landscape")[2].partition("\n### ")[0]
        assert f"Of 30 published values, ours lies within 0.05 of {near} and within 0.10 of {wide}." in section
    three = r"(\d+), (\d+) and (\d+)"
    found = re.search(rf"within 0.05 [^.]* for {three} of 30 values .*, and within 0.10 for {three}\.", text, re.DOTALL)
    assert found and list(map(int, found.groups())) == [*counts[0.05], *counts[0.10]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_decimal_in_prose_is_one_of_a_table(page: Path) -> None:
    """Numbers that a page repeats in its own words are in its tables, or in the CSV files beside it."""
    text = page.read_text(encoding="utf-8")
    if page == README:
        text = text.partition("## A result")[2].partition("\n## ")[0]
    tables = "".join(GENERATED.findall(text))
    folder = DOCS / "results" / ("held_out" if page == HELD_OUT_PAGE else "paper")
    stored = {line["mean"] for file in folder.glob("*.csv") for line in lines(file) if line.get("mean")}
    prose = re.sub(r"`[^`]*`|\d{4}\.\d{5}", "", GENERATED.sub("", text))
    for number in re.findall(rf"(?<![\d.])[{MINUS}+-]?\d+\.\d{{2,}}(?![\d.])", prose):
        plain = number.lstrip(f"+-{MINUS}")
        digits = len(plain.partition(".")[2])
        known = plain in tables or any(f"{abs(float(value)):.{digits}f}" == plain for value in stored)
        assert known, f"{page.name}: {number} is in no table: is it still true?"


def test_the_speed_in_the_readme_is_that_of_the_page() -> None:
    (speed,) = re.findall(r"PPO (\d\.\d) times Stable-Baselines3 on one core", README.read_text())
    (measured,) = re.findall(r"\| PPO, AVX-512 \|.*\| (\d\.\d+) \[[^|]*\] \|\n", (DOCS / "performance.md").read_text())
    assert float(speed) == pytest.approx(float(measured), abs=0.05)


def test_every_study_is_on_a_page_and_every_file_is_a_study(scripts: ModuleType) -> None:
    studies = scripts.studies()
    shown = {name for page in PAGES for name in scripts.pages.names(page.read_text(encoding="utf-8"))}
    assert {str(study) for study in studies if study.kind != "tried"} | set(scripts.pages.SUMMARIES) == shown
    files = {f"{file.parent.name}/{file.stem}" for file in (DOCS / "results").glob("*/*.csv")}
    assert files - {"held_out/tried"} <= {str(study) for study in studies}
    about = json.loads((DOCS / "results" / "about.json").read_text())
    assert about.keys() == files - {"held_out/tried"}
    for study in about.values():
        assert study["commit"] and study["processor"] and study["date"] and study["command"].startswith("perturbrl ")


def redirect(scripts: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the scripts read and write a copy of what they need below ``folder``."""
    here = folder / "docs" / "results"
    here.mkdir(parents=True)
    (folder / "docs" / "img").mkdir()
    (here / "studies.yaml").write_text((DOCS / "results" / "studies.yaml").read_text())
    collect, pages = scripts.collect, scripts.pages
    for module in (collect, pages):
        for name, place in {"HERE": here, "ABOUT": here / "about.json"}.items():
            monkeypatch.setattr(module, name, place)
        monkeypatch.setattr(module, "TRIED", here / "held_out" / "tried.csv")
    page = folder / "page.md"
    page.write_text("By hand 1.\n<!-- results paper/bmmc -->\nold\n<!-- /results -->\nBy hand 2.\n")
    monkeypatch.setattr(pages, "PAGES", (page,))
    pages.studies.cache_clear()


def test_pages_are_made_of_finished_runs(
    scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from perturbrl.report.build import build_report

    redirect(scripts, monkeypatch, tmp_path / "copy")
    for agent in AGENTS:
        for seed in range(3):
            make_run(tmp_path / "runs" / "bmmc", agent, "rna", seed, name="released")
    assert scripts.main(["--finished", "--paper", str(tmp_path / "runs"), "paper"]) == 0
    said = capsys.readouterr().out
    assert "paper/bmmc: made" in said and "paper/landscape: no runs" in said
    page = (tmp_path / "copy" / "page.md").read_text()
    assert page.startswith("By hand 1.\n") and page.endswith("By hand 2.\n") and "\nold\n" not in page
    assert "3 seeds, mean ± half-width of the 95 % t interval; commit fabricated, " in page
    assert re.search(r"\| \*\*ppo\*\* \| 0\.\d{3} ± 0\.\d{3} \|", page)
    (table,) = build_report([tmp_path / "runs"], tmp_path / "report", figures=False).tables
    assert f"within 0.05 of {table.within.by_005} and within 0.10 of {table.within.by_010}." in page
    stored = {(line["row"], line["metric"]): line for line in lines(tmp_path / "copy/docs/results/paper/bmmc.csv")}
    interval = table.agents[0].cell("mse")
    cell = stored["ppo", "mse"]
    for value, column in ((interval.mean, "mean"), (interval.low, "low"), (interval.high, "high")):
        assert float(cell[column]) == pytest.approx(value, rel=1e-5)
    assert float(stored["trpo_ppo", "steps"]["mean"]) == 61_440
    again = page
    assert scripts.main(["--render"]) == 0
    assert (tmp_path / "copy" / "page.md").read_text() == again


def test_a_held_out_study_of_finished_runs(
    scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect(scripts, monkeypatch, tmp_path / "copy")
    page = tmp_path / "copy" / "page.md"
    names = ("held_out/norman", "held_out/overview", "held_out/returns")
    page.write_text("".join(f"<!-- results {name} -->\n<!-- /results -->\n" for name in names))
    for agent in AGENTS:
        for seed in range(3):
            make_screen_run(tmp_path / "runs", agent, seed, name="norman", split_seed=seed)
    assert scripts.main(["--finished", "--held_out", str(tmp_path / "runs"), "held_out/norman"]) == 0
    text = page.read_text()
    stored = lines(tmp_path / "copy/docs/results/held_out/norman.csv")
    primary = {
        (x["row"], x["kind"]): x["mean"] for x in stored if (x["statistic"], x["metric"]) == ("raw", "pds_cosine")
    }
    simple = {row: float(mean) for (row, kind), mean in primary.items() if kind == "simple"}
    best = max(simple, key=simple.__getitem__)
    titles = {"no_change": "no change (floor)", "trpo_ppo": "**trpo_ppo**", best: row_info(best).title}
    for (row, _), mean in primary.items():
        if row in titles:
            (line,) = [line for line in text.splitlines() if line.startswith(f"| {titles[row]} |")]
            assert f"| {float(mean):.3f}" in line
    overview = text.partition("<!-- results held_out/overview -->")[2].partition("<!-- /results -->")[0]
    (summary,) = [line for line in overview.splitlines() if line.startswith("| Norman 2019")]
    assert f"| {row_info(best).title} | {simple[best]:.3f}" in summary
    assert "on 3 distinct held-out sets" in text and "perturbrl train experiment=counterfactual source=file" in text
    returns = text.partition("<!-- results held_out/returns -->")[2].partition("<!-- /results -->")[0]
    assert "| best allowed actions |" in returns.splitlines()[1]
    assert [line for line in returns.splitlines() if line.startswith("| Norman 2019")]


def test_unfinished_runs_make_no_table(
    scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    redirect(scripts, monkeypatch, tmp_path / "copy")
    for seed, status in enumerate(("complete", "running")):
        make_run(tmp_path / "runs" / "bmmc", "ppo", "rna", seed, name="released", status=status)
    monkeypatch.setattr(scripts.pages, "PAGES", ())
    assert scripts.main(["--finished", "--paper", str(tmp_path / "runs"), "paper/bmmc"]) == 1
    assert "1 of 2 runs are not finished" in capsys.readouterr().err
    assert not (tmp_path / "copy/docs/results/paper").exists()


def test_a_missing_file_leaves_its_sections_and_is_said(
    scripts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    redirect(scripts, monkeypatch, tmp_path / "copy")
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.setattr(scripts.pages, "PAGES", ())
    ran: list[Any] = []
    monkeypatch.setattr(scripts.subprocess, "run", lambda *words, **_: ran.append(words))
    assert scripts.main(["paper/bmmc"]) == 1
    assert capsys.readouterr().err.startswith(f"error: paper/bmmc: bmmc_multiome.h5mu is not below DATA={tmp_path}: ")
    assert not ran


def test_commands_are_those_of_the_pages(scripts: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "papalexi21_thp1.h5ad").touch()
    studies = {str(study): study for study in scripts.studies()}
    first, second = studies["held_out/papalexi"].commands(tmp_path / "out", str(tmp_path))
    assert first[3:6] == ["train", "experiment=counterfactual", "source=file"]
    assert f"path={tmp_path / 'deep' / 'papalexi21_thp1.h5ad'}" in first and "name=papalexi" in first
    assert f"hydra.sweep.dir={tmp_path / 'out'}" in first and second[3:] == ["evaluate", str(tmp_path / "out/papalexi")]
    (paper,) = studies["paper/landscape"].commands(tmp_path / "out", None)
    assert paper[3:] == ["reproduce", "--seeds", "5", "--out", str(tmp_path / "out" / "landscape")]
    assert studies["paper/papalexi"].command.startswith(
        "perturbrl reproduce --seeds 3 --out papalexi source=file path=$DATA/"
    )
