"""What other programs read, and the figure of a sweep over a number. All scores are fabricated."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from fakes.recorded_runs import command, write
from fakes.runs import make_run
from fakes.screen_runs import make_screen_run
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perturbrl.report import build_report, exports, swept
from perturbrl.report.collect import collect
from perturbrl.report.held_out import gather
from perturbrl.report.paper import build_tables, section
from perturbrl.report.render import document, latex
from perturbrl.report.text import escape_tex
from perturbrl.stats import mean_interval

USE = Path(__file__).parents[2] / "docs" / "use.md"
ENGINE = next((name for name in ("pdflatex", "lualatex", "xelatex", "tectonic") if shutil.which(name)), None)
# of LaTeX, booktabs and graphicx; a command outside of these needs another package
COMMANDS = {
    *("begin", "end", "caption", "label", "centering", "resizebox", "textwidth", "toprule", "midrule", "bottomrule"),
    *("addlinespace", "par", "smallskip", "footnotesize", "raggedright", "quad", "textit", "texttt", "clearpage"),
    *("textbackslash", "textasciitilde", "textasciicircum", "cdot", "pm", "uparrow", "downarrow", "Delta", "dots"),
    *("documentclass", "usepackage", "gamma", "delta", "to"),
}


def documented(file: str) -> list[str]:
    """The columns that docs/use.md names for a file."""
    table = USE.read_text(encoding="utf-8").split(f"| column of `{file}` |")[1].split("\n\n")[0]
    return [name for line in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", line.split("|")[1])]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for lr in ("1e-3", "1e-2"):
        for seed in (0, 1):
            write(command(f"agent.lr={lr}", f"seed={seed}", "policy.hidden=[8]"), tmp_path / "outputs")
    make_screen_run(tmp_path / "outputs", status="diverged")
    return tmp_path


def test_values_say_what_each_run_was_and_where_it_lies(sweep: Path) -> None:
    build_report([sweep / "outputs"], sweep / "report", figures=False)
    values = pd.read_csv(sweep / "report/values.csv", dtype={"agent.lr": str})
    assert [c for c in values if c != "agent.lr"] == documented("values.csv")
    found = collect([sweep / "outputs"])
    assert len(values) == len(found.frame)
    paper = values[values["env"] == "paper"]
    assert set(zip(paper["variant"], paper["agent.lr"], strict=True)) == {
        ("ppo,lr=0.001", "0.001"),
        ("ppo,lr=0.01", "0.01"),
    }
    assert set(paper["encoder"]) == {"random_gat"} and set(paper["policy"]) == {"trunk"}
    hashes = {str(run["config_hash"]) for _, run in found.runs.iterrows() if run["env"] == "paper"}
    assert set(paper["config_hash"]) == hashes and len(hashes) == 4
    for run in values["run"].unique():
        assert (sweep / "outputs" / run / "run.json").exists() and not Path(run).is_absolute()
    scores = found.frame.set_index(["run", "row", "metric"])["value"]
    for line in paper[paper["metric"] == "mse"].itertuples():
        same = scores[str(sweep / "outputs" / str(line.run)), line.row, "mse"]
        assert line.value == pytest.approx(same, rel=1e-15)


def test_what_a_users_own_yaml_file_changes_has_a_column(tmp_path: Path) -> None:
    file = tmp_path / "configs" / "env" / "hard.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("defaults: [paper]\nmax_perturb: 20\n")
    for env in ("paper", "hard"):
        write(command(f"env={env}", configs=tmp_path / "configs"), tmp_path / "outputs")
    values = exports.values(collect([tmp_path / "outputs"]))
    assert set(zip(values["task"], values["env.max_perturb"], strict=True)) == {("paper", "5"), ("hard", "20")}
    assert not {"env.name", "data_checksum"} & set(values)


def test_curves_are_those_of_the_logs(sweep: Path) -> None:
    build_report([sweep / "outputs"], sweep / "report", figures=False)
    curves = pd.read_csv(sweep / "report/curves.csv")
    assert [c for c in curves if not c.startswith("eval/")] == documented("curves.csv")[:-1]
    assert documented("curves.csv")[-1] == "eval/<metric>"
    for run, part in curves.groupby("run"):
        log = pd.read_parquet(sweep / "outputs" / str(run) / "progress.parquet")
        assert part["step"].tolist() == log["step"].tolist()
        for column in (c for c in log if c == "return_mean" or c.startswith("eval/")):
            pd.testing.assert_series_equal(
                part[column], log[column].astype(float), check_index=False, check_names=False
            )
    assert set(curves["variant"]) == {"ppo,lr=0.001", "ppo,lr=0.01", "ppo"}


def test_no_log_makes_an_empty_table_of_curves(tmp_path: Path) -> None:
    make_run(tmp_path, points=0)
    assert list(exports.curves(collect([tmp_path]))) == list(exports.CURVE)


def test_one_folder_lies_above_the_runs_of_any_layout(tmp_path: Path) -> None:
    for k, seed in enumerate((0, 1)):
        write(command(f"seed={seed}"), tmp_path, Path(f"outputs/{k}"))
    assert list(exports.values(collect([tmp_path]))["run"].unique()) == ["0", "1"]
    write(command("seed=2"), tmp_path)
    assert exports.outputs_folder(collect([tmp_path])) == tmp_path / "outputs"


@pytest.mark.parametrize("key", ["env.max_perturb", "agent.lr"])
def test_a_sweep_over_a_number_is_one_figure(tmp_path: Path, key: str) -> None:
    scores = {}
    for agent in ("ppo", "trpo"):
        for x in (1, 4, 9):
            values = [x + 0.1 * seed for seed in range(3)]
            scores[agent, x] = mean_interval(values)
            for seed, value in enumerate(values):
                job = command(f"agent={agent}", f"{key}={x}", f"seed={seed}")
                write(job, tmp_path / "runs", values={"mse": value}, points=0)
    found = collect([tmp_path / "runs"])
    assert swept.numbers(found.differing) == [key]
    lines = swept.series(build_tables(found), key, found.differing)
    drawn = swept._draw(lines, key, swept.PAPER_PANELS)
    assert drawn is not None and key in drawn.title
    left, right = drawn.figure.axes
    assert left.get_xlabel() == right.get_xlabel() == key
    legend = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert legend == ["ppo", "trpo"]
    for agent, bars in zip(legend, left.containers, strict=True):
        mean, _, (halves,) = bars
        assert mean.get_xydata().tolist() == [[x, pytest.approx(scores[agent, x].mean)] for x in (1, 4, 9)]
        ends = [segment[:, 1].tolist() for segment in halves.get_segments()]
        assert ends == [[pytest.approx(scores[agent, x].low), pytest.approx(scores[agent, x].high)] for x in (1, 4, 9)]


@pytest.mark.parametrize(
    ("key", "values", "scores"),
    [
        ("agent.lr", ("1e-4", "1.5e-4", "2e-4", "1e-3"), (0.1, 0.2, 0.3, 0.4)),
        ("agent.gamma", ("0.95", "0.99"), (1.0645e-4, 1.0676e-4)),
    ],
)
def test_every_number_of_a_swept_figure_can_be_read(
    tmp_path: Path, key: str, values: tuple[str, ...], scores: tuple[float, ...]
) -> None:
    for x, score in zip(values, scores, strict=True):
        write(command(f"{key}={x}"), tmp_path / "runs", values={"mse": score, "return_gain": score}, points=0)
    found = collect([tmp_path / "runs"])
    drawn = swept._draw(swept.series(build_tables(found), key, found.differing), key, swept.PAPER_PANELS)
    assert drawn is not None
    FigureCanvasAgg(drawn.figure).draw()
    page = drawn.figure.bbox
    for ax in drawn.figure.axes:
        for axis, shown in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
            labels = [t.label1 for t in axis.get_major_ticks() if shown[0] <= t.get_loc() <= shown[1]]
            boxes = [label.get_window_extent() for label in labels]
            assert len(boxes) > 1 and all(page.x0 <= box.x0 and box.x1 <= page.x1 for box in boxes)
            assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert {ax.get_xticks()[0], ax.get_xticks()[-1]} == {float(values[0]), float(values[-1])}


def test_the_figure_of_a_sweep_is_on_the_page(tmp_path: Path) -> None:
    for skill in (1, 2):
        for seed in (0, 1):
            make_screen_run(tmp_path / "runs", seed=seed, env=f"counterfactual,horizon={skill}", skill=0.3 * skill)
    report = build_report([tmp_path / "runs"], tmp_path / "out")
    assert "swept-held-out-env.horizon" in {file.stem for file in report.files}
    assert "Score against env.horizon" in report.page.read_text()
    found = collect([tmp_path / "runs"])
    [line] = swept.series(gather(found), "env.horizon", found.differing)
    assert sorted(line.points) == [1.0, 2.0]


def test_choices_and_seeds_are_no_numbers_of_a_sweep(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(command(f"split.seed={seed}", f"policy.activation={('tanh', 'relu')[seed]}"), tmp_path, Path(f"o/{seed}"))
    assert swept.numbers(collect([tmp_path]).differing) == []


def names(tmp_path: Path) -> None:
    """Runs whose names hold whatever LaTeX reads otherwise."""
    for agent in ("ppo", "odd_agent", "a^b~c\\d"):
        for seed in (0, 1):
            make_run(
                tmp_path, agent, seed=seed, name="50%_&_more #1 {x} \N{GREEK SMALL LETTER GAMMA}δT → Größe", points=0
            )
        make_screen_run(tmp_path, agent.replace("\\", ""), cells="Café $5-rna")


def test_latex_needs_the_packages_that_it_names_and_no_other(tmp_path: Path) -> None:
    names(tmp_path)
    report = build_report([tmp_path], tmp_path / "report", figures=False)
    texts = [file.read_text() for file in report.files if file.suffix == ".tex"]
    assert len(texts) == 3
    for text in texts:
        assert text.isascii() and r"\usepackage{booktabs,graphicx}" in text
        assert set(re.findall(r"\\([A-Za-z]+)", text)) <= COMMANDS
        plain = re.sub(r"\\[{}]", "", text)
        depth = 0
        for letter in plain:
            depth += {"{": 1, "}": -1}.get(letter, 0)
            assert depth >= 0
        assert depth == 0
        opened: list[str] = []
        for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", text):
            assert kind == "begin" or opened.pop() == name
            opened += [name] if kind == "begin" else []
        assert not opened
        for caption in re.findall(r"\\caption\{(.*)\}\n", text):
            assert len(caption) < 300 and caption.endswith(".") and r"\cdot" not in caption


def test_letters_without_a_command_lose_their_accents() -> None:
    assert escape_tex("δ Größe → Ω ☃") == r"$\delta$ Gro?e $\to$ $\Omega$ ?"


@pytest.mark.skipif(ENGINE is None, reason="no TeX engine is installed")
def test_latex_compiles(tmp_path: Path) -> None:
    names(tmp_path / "runs")
    report = build_report([tmp_path / "runs"], tmp_path / "report", figures=False)
    parts = [file for file in report.files if file.parent.name == "tables" and file.suffix == ".tex"]
    assert len(parts) == 2
    for k, file in enumerate(parts):
        shutil.copy(file, tmp_path / f"part{k}.tex")
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    body = r"\input{part0}\clearpage\input{part1}"
    (tmp_path / "paper.tex").write_text(f"{head}{body}\n\\end{{document}}\n")
    shutil.copy(tmp_path / "report" / "tables.tex", tmp_path / "tables.tex")
    for file in ("paper.tex", "tables.tex"):
        options = [] if ENGINE == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
        done = subprocess.run([str(ENGINE), *options, file], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
        assert (tmp_path / file).with_suffix(".pdf").stat().st_size > 10_000


def test_the_document_holds_every_table(tmp_path: Path) -> None:
    for data in ("rna", "atac"):
        make_run(tmp_path, data=data)
    sections = [section(table) for table in build_tables(collect([tmp_path]))]
    text = document(sections)
    assert text.count(r"\begin{tabular}") == sum(latex(one).count(r"\begin{tabular}") for one in sections) == 2
