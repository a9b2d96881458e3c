from __future__ import annotations

import io
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fakes import runs
from fakes.runs import make_run
from rich.console import Console

from perturbrl.errors import UserError
from perturbrl.report import build, build_report, curves, layout, style
from perturbrl.report.collect import collect
from perturbrl.report.console import console
from perturbrl.report.lines import Panel, learning_curves
from perturbrl.report.overview import labels
from perturbrl.report.paper import build_tables, section
from perturbrl.report.paper_figures import _Arm, _disagreement, _metrics, draw
from perturbrl.report.paper_notes import NOTE

VOID = {"meta", "br", "col", "link", "img", "input", "hr"}


class Strict(HTMLParser):
    """Checks that tags nest and gathers ids and whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(str(value))
            if key in ("src", "srcset", "href", "xlink:href", "data", "action"):
                self.targets.append(str(value))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    for agent in ("ppo", "trpo_ppo"):
        for seed in (0, 1):
            make_run(root, agent, seed=seed)
    make_run(root, "ppo", seed=2, status="diverged")
    make_run(root, "ppo", seed=3, said={"leaks": ["<script>alert(1)</script>"]})
    make_run(root, "ppo", seed=4, status="failed", said={"message": "<b>&"})
    out = root / "report"
    report = build_report([root / "fabricated"], out)
    text = io.StringIO()
    Console(file=text, width=100).print(report.console)
    assert str(report.page) in text.getvalue() and "left out" in text.getvalue()
    assert all(file.exists() for file in report.files) and report.page in report.files
    return root, out


def test_files(built: tuple[Path, Path]) -> None:
    _, out = built
    suffixes = sorted(f.suffix for f in out.rglob("*") if f.is_file())
    assert suffixes == sorted([".html", ".md", *[".csv"] * 4, *[".tex"] * 2, *[".png", ".svg"] * 3])


def test_page_is_well_formed_escaped_and_asks_for_nothing(built: tuple[Path, Path]) -> None:
    text = (built[1] / "report.html").read_text()
    parser = Strict()
    parser.feed(text)
    assert parser.open == [] and len(parser.ids) == len(set(parser.ids))
    assert "script" not in parser.tags and "&lt;script&gt;" in text and "&lt;b&gt;&amp;" in text
    assert parser.targets and all(target.startswith("#") for target in parser.targets)
    assert {target[1:] for target in parser.targets} <= set(parser.ids)
    assert "@import" not in text and "url(http" not in text
    first = text.split("<figure>")[0]
    for said in (
        "do_nothing (floor)",
        "true task",
        "released metric",
        "diverged (1 of 4 seeds)",
        "not a measure of prediction",
    ):
        assert said in first


def test_page_defines_every_colour_in_both_faces(built: tuple[Path, Path]) -> None:
    text = (built[1] / "report.html").read_text()
    light, dark = text.split("prefers-color-scheme: dark", 1)
    for variable in style.VARIABLES.values():
        assert f"{variable}: #" in light and f"{variable}: #" in dark


def test_the_same_runs_give_the_same_svg(tmp_path: Path) -> None:
    make_run(tmp_path, points=0)
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        made += [
            file.read_bytes() for p in draw(build_tables(collect([tmp_path]))[0], folder) for file in (p.svg, p.png)
        ]
    assert len(made) == 4 and made[:2] == made[2:]


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    root, out = built
    build_report([root / "fabricated"], tmp_path / "again")
    for file in (f for f in out.rglob("*") if f.is_file()):
        assert (tmp_path / "again" / file.relative_to(out)).read_bytes() == file.read_bytes(), file.name


def test_unwritable_output_is_one_line(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="taken: the report cannot be written"):
        build_report([tmp_path / "runs"], tmp_path / "taken", figures=False)


def test_report_needs_no_torch() -> None:
    code = "import sys, perturbrl.report, perturbrl.stats; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_mean_curve(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed, n in enumerate((30, 30, 30)):
        run = make_run(tmp_path, seed=seed, points=0, status="diverged" if seed == 2 else "complete")
        pd.DataFrame({"step": np.arange(1, n + 1) * 10, "return_mean": rng.normal(size=n)}).to_parquet(
            run / "progress.parquet"
        )
    [row] = build_tables(collect([tmp_path]))[0].agents
    found = curves.of_runs(row.runs)
    assert [c.diverged for c in found] == [False, False, True]
    mean = curves.band(found, curves.RETURN)
    pair = np.stack([found[0].values["return_mean"], found[1].values["return_mean"]])
    np.testing.assert_allclose(mean.mean, pair.mean(axis=0))
    np.testing.assert_allclose(mean.half, 12.706204736 * pair.std(axis=0, ddof=1) / np.sqrt(2))  # t(1) at 97.5 %
    np.testing.assert_array_equal(mean.steps, np.arange(10, 310, 10))
    assert np.isnan(curves.band(found[:1], curves.RETURN).half).all()


def test_mean_curve_of_different_steps_stays_where_all_are() -> None:
    a = curves.Curve(0, False, np.array([0.0, 10, 20]), {"return_mean": np.array([0.0, 1, 2])})
    b = curves.Curve(1, False, np.array([5.0, 6, 15, 16]), {"return_mean": np.array([1.0, 1.2, 3.0, 3.2])})
    mean = curves.band([a, b], curves.RETURN)
    assert mean.steps.tolist() == [10.0] and mean.mean.tolist() == [(1.0 + 2.0) / 2]


def test_curves_leave_out_gaps_and_repeated_steps(tmp_path: Path) -> None:
    frame = pd.DataFrame({"step": [10, 20, 20, 30], "stage": ["a", "a", "a", "b"], "return_mean": [1, 5, 2, np.inf]})
    frame.to_parquet(tmp_path / "progress.parquet")
    curve = curves.read(tmp_path)
    assert curve is not None and curve.handover == 20.0
    x, y = curve.points(curves.RETURN)
    assert (x.tolist(), y.tolist()) == ([10.0, 20.0], [1.0, 2.0])
    (tmp_path / "progress.parquet").write_bytes(b"torn")
    assert curves.read(tmp_path) is None and curves.read(tmp_path / "absent") is None


@pytest.mark.parametrize(("steps", "beyond"), [(8192, True), (1_100_000, False)])
def test_the_axis_of_steps_fits_the_runs_and_not_the_published_budget(
    tmp_path: Path, steps: int, beyond: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runs.STEPS, "ppo", steps)
    for seed in (0, 1, 2):
        make_run(tmp_path, seed=seed)
    [table] = build_tables(collect([tmp_path]))
    [row] = table.agents
    drawn = _metrics(table, [_Arm(row.label, style.styles([("ppo", "ppo")])[0], curves.of_runs(row.runs), row)])
    assert drawn is not None
    for ax in drawn.figure.axes:
        assert ax.get_xlim()[1] < 1.2 * steps
        assert len(ax.collections) == 1  # the band
    marked = [line for ax in drawn.figure.axes for line in ax.lines if line.get_marker() == "D"]
    assert (len(marked) == 0) == beyond


def test_the_band_covers_the_interval_and_widens_no_axis(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, seed=seed)
    [row] = build_tables(collect([tmp_path]))[0].agents
    arm = _Arm(row.label, style.styles([("ppo", "ppo")])[0], curves.of_runs(row.runs), row)
    figure = learning_curves([arm], (Panel(curves.RETURN, "return"),), (4.0, 3.0), 0.5)
    assert figure is not None
    [ax] = figure.axes
    [band] = ax.collections
    mean = curves.band(arm.curves, curves.RETURN)
    corners = np.asarray(band.get_paths()[0].vertices)
    assert corners[:, 1].max() == pytest.approx((mean.mean + mean.half).max())
    values = [curve.values[curves.RETURN] for curve in arm.curves]
    low, high = ax.get_ylim()
    assert high - low < 1.3 * np.ptp(np.concatenate([*values, [0.0]])) < np.ptp(corners[:, 1])


def test_a_sweep_of_many_tables_has_one_figure_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "ALL_DRAWN", 1)
    monkeypatch.setattr(build, "FEW_DRAWN", 1)
    for k in (2, 10):
        make_run(tmp_path / "runs", env=f"paper,max_perturb={k}", points=0)
    report = build_report([tmp_path / "runs"], tmp_path / "out")
    assert [t.parts[3] for t in report.tables] == ["paper,max_perturb=2", "paper,max_perturb=10"]
    drawn = {f.stem for f in report.files if f.suffix == ".png"}
    assert drawn == {"overview", "swept-env.max_perturb", f"{report.tables[0].slug}-disagreement"}
    text = report.page.read_text()
    assert text.count("No figures of its own") == 1 and "max_perturb=10/ppo/seed0" in text


def test_many_overrides_make_no_name_that_a_file_system_refuses(tmp_path: Path) -> None:
    long = "paper," + ",".join(f"protocol.some_key_{k}=1" for k in range(9))
    make_run(tmp_path / "runs", env=long + "0", points=0)
    make_run(tmp_path / "runs", env=long + "1", points=0)
    report = build_report([tmp_path / "runs"], tmp_path / "out")
    assert len({table.slug for table in report.tables}) == 2
    assert max(len(f.name) for f in report.files) < 160


def test_labels_name_what_differs(tmp_path: Path) -> None:
    for data in ("rna", "atac"):
        for k in (4, 5):
            make_run(tmp_path, data=data, env=f"paper,max_perturb={k}")
    assert labels(build_tables(collect([tmp_path]))) == [
        f"{data} · paper,max_perturb={k}" for k in (4, 5) for data in ("rna", "atac")
    ]


def test_points_lie_where_they_should(tmp_path: Path) -> None:
    make_run(tmp_path, points=0)
    [table] = build_tables(collect([tmp_path]))
    drawn = _disagreement(table, [_Arm(row.label, style.styles([("ppo", "ppo")])[0], [], row) for row in table.agents])
    assert drawn is not None
    [ax] = drawn.figure.axes
    dots = {tuple(dot) for line in ax.lines[1:] for dot in np.asarray(line.get_xydata()).tolist()}
    assert dots == {(row.cell("return_gain").mean, row.cell("mse").mean) for row in table.rows}
    low, high = ax.get_ylim()
    assert all(low < y < high for _, y in dots)


def test_no_progress_leaves_the_curves_out_and_no_figure_breaks(tmp_path: Path) -> None:
    make_run(tmp_path, points=0)
    make_run(tmp_path, "trpo", points=0, status="diverged")
    [table] = build_tables(collect([tmp_path]))
    (tmp_path / "figures").mkdir()
    assert [picture.png.stem.split("-")[-1] for picture in draw(table, tmp_path / "figures")] == ["disagreement"]


def test_no_two_lines_look_the_same() -> None:
    looks = style.styles([(f"a{k}", f"a{k}") for k in range(20)] + [("ppo", "ppo"), ("ppo", "ppo,x=1")])
    assert len({(look["color"], str(look["dash"])) for look in looks}) == len(looks)
    assert style.styles([("trpo_ppo", "trpo_ppo")])[0] == style.styles([("ppo", "ppo"), ("trpo_ppo", "trpo_ppo")])[1]


def test_no_two_entries_of_a_legend_read_alike() -> None:
    long = [f"agent,{'x' * 60}={k}{'y' * 20}" for k in (1, 2)]
    handles = [layout.key(label, color="k") for label in (*long, "ppo")]
    layout.panels(1, 1, (3.0, 2.0), handles, left=0.5)
    shown = [str(handle.get_label()) for handle in handles]
    assert len(set(shown)) == 3 and shown[2] == "ppo" and max(map(len, shown)) < 60


def test_the_page_fits_a_narrow_screen_and_labels_break_at_settings(tmp_path: Path) -> None:
    for lr in ("1", "2"):
        make_run(tmp_path / "runs", override=f",lr={lr},a_setting_with_a_long_name={lr}", points=0)
    text = build_report([tmp_path / "runs"], tmp_path / "out").page.read_text()
    assert ">ppo,<wbr>a_setting_with_a_long_name=1<" in text.replace(",<wbr>lr=1", "")
    assert "@media (max-width: 640px)" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_terminal_cuts_no_label(tmp_path: Path, width: int) -> None:
    for k in (1, 2):
        make_run(tmp_path, override=f",a_long_setting={k},another_setting=1{k}", points=0)
    text = io.StringIO()
    sections = [section(table) for table in build_tables(collect([tmp_path]))]
    Console(file=text, width=width).print(console(sections))
    shown = text.getvalue().split("Steps:")[0]
    assert "…" not in shown and all(f"another_setting=1{k}" in shown for k in (1, 2))


@pytest.mark.parametrize(
    ("agents", "source", "asked", "compared"),
    [
        (("ppo", "trpo"), "landscape", False, False),
        (("ppo", "trpo_ppo"), "mine", True, False),
        (("ppo", "trpo_ppo"), "landscape", True, True),
    ],
)
def test_what_won_is_asked_where_it_ran_and_published_cells_are_counted_where_they_stand(
    tmp_path: Path, agents: tuple[str, ...], source: str, asked: bool, compared: bool
) -> None:
    for agent in agents:
        make_run(tmp_path, agent, source=source)
    built = build_report([tmp_path], tmp_path / "report", figures=False)
    text = io.StringIO()
    Console(width=200, file=text).print(built.console)
    page = built.page.read_text()
    assert ("did trpo_ppo win?" in text.getvalue(), "Did trpo_ppo win" in page) == (asked, asked)
    assert ("Published cells within" in page, "within 0.05" in text.getvalue().partition("win?")[2]) == (compared,) * 2
    assert NOTE in page
