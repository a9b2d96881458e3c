"""How PPO and its environment slow down as work grows, and what memory they take: ``bench_scaling.py --help``.

One quantity varies, the others stay at the base point. Every point is a process of its own on one core; before each the
matrix product of ``bench_agents.py`` is measured, and the arithmetic limits are drawn from the median of those.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from pathlib import Path
from typing import Any

import arithmetic
from harness import (
    Sample,
    Settings,
    Spread,
    Worker,
    WorkerFailed,
    core_of,
    describe,
    load,
    machine,
    markdown,
    parser,
    quick_note,
    say,
    write_json,
)

BASE = Settings(envs=32)
NAMES = {
    "features": "features G",
    "envs": "cells stepped together B",
    "runs": "runs together S",
    "width": "width of the two hidden layers",
    "cells": "cells of the table N",
}
AXES: dict[str, tuple[int, ...]] = {
    "features": (32, 64, 256, 1000, 2000),
    "envs": (1, 8, 32, 128),
    "runs": (1, 2, 5, 10, 20),
    "width": (64, 256, 512),
    "cells": (1000, 10_000, 100_000, 1_000_000),
}
QUICK: dict[str, tuple[int, ...]] = {"features": (32, 64), "runs": (1, 2), "cells": (1000, 10_000)}
MB = 1e6
BLUE, ORANGE, INK = "#0072b2", "#e69f00", "#1c2127"  # Okabe & Ito (2008)


@dataclasses.dataclass(frozen=True)
class Point:
    steps: Spread  # per CPU second
    wall: Spread
    about: dict[str, Any]


class Bench:
    """Measures points, each once, and the matrix product before each."""

    def __init__(self, args: argparse.Namespace, base: Settings, seconds: float, rounds: int) -> None:
        self.base, self.seconds, self.rounds, self.core = base, seconds, rounds, core_of(args)
        self.done: dict[tuple[str, Settings], Point | str] = {}
        self.products: list[Sample] = []
        self.gemm = Worker("gemm", base, seconds / 4, self.core)

    def point(self, contender: str, s: Settings) -> Point | str:
        """Return what was measured, or why nothing was."""
        if (contender, s) not in self.done:
            self.products.append(self.gemm.measure())
            say(f"  {contender}: S = {s.runs}, B = {s.envs}, G = {s.features}, hidden {s.hidden[0]}, N = {s.cells:,}")
            self.done[contender, s] = self._measure(contender, s)
        return self.done[contender, s]

    def _measure(self, contender: str, s: Settings) -> Point | str:
        try:
            worker = Worker(contender, s, self.seconds, self.core)
            samples = [worker.measure() for _ in range(self.rounds)]
        except WorkerFailed as error:
            return str(error)
        worker.close()
        cpu, wall = (Spread.of(getattr(x, a) for x in samples) for a in ("per_cpu", "per_wall"))
        return Point(cpu, wall, worker.about)

    @property
    def flops(self) -> float:
        return Spread.of(x.per_cpu for x in self.products).median

    def at(self, axis: str, value: int) -> Settings:
        change: dict[str, Any] = {"hidden": (value, value)} if axis == "width" else {axis: value}
        return dataclasses.replace(self.base, **change)


def rows_of(bench: Bench, axes: dict[str, tuple[int, ...]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for axis, values in axes.items():
        for value in values:
            s = bench.at(axis, value)
            for contender in ("ppo", "env") if axis != "width" else ("ppo",):
                found = bench.point(contender, s)
                key = {"what": contender, "axis": axis, "value": value}
                if isinstance(found, str):
                    say(f"    {found}")
                    rows.append(key | {"problem": found})
                    continue
                spread = {"steps_per_cpu_s": found.steps.median, "low": found.steps.low, "high": found.steps.high}
                memory = {f"{k}_mb": found.about[k] / MB for k in ("table_bytes", "rss_imports", "rss_built", "rss")}
                flop = arithmetic.ppo(s) if contender == "ppo" else None
                rows.append(key | spread | {"steps_per_s": found.wall.median, "flop_per_step": flop} | memory)
    for row in rows:
        if row.get("flop_per_step"):
            row["limit_per_cpu_s"] = bench.flops / row["flop_per_step"]
    return rows


def memory_rows(bench: Bench, cells: tuple[int, ...], many: int) -> list[list[str]]:
    """What one more run costs the environment: it must not depend on the number of cells."""
    out = []
    for n in cells:
        one, several = (bench.point("env", dataclasses.replace(bench.base, cells=n, runs=s)) for s in (1, many))
        if isinstance(one, str) or isinstance(several, str):
            out.append([f"{n:,}", *[str(x) for x in (one, several) if isinstance(x, str)]])
            continue
        rss = [p.about["rss"] - p.about["rss_imports"] for p in (one, several)]
        numbers = (one.about["table_bytes"], *rss, (rss[1] - rss[0]) / (many - 1))
        out.append([f"{n:,}", *(f"{x / MB:,.2f}" for x in numbers)])
    return out


def figure(rows: list[dict[str, Any]], note: str, file: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes = [a for a in NAMES if any(r["axis"] == a for r in rows)]
    fig = Figure(figsize=(3.6 * len(axes), 4.2), layout="constrained")
    shared = None
    for k, axis in enumerate(axes):
        ax = shared = fig.add_subplot(1, len(axes), k + 1, sharey=shared)
        for what, label, color, marker in (
            ("env", "environment alone", ORANGE, "s"),
            ("ppo", "PPO, whole loop", BLUE, "o"),
        ):
            mine = [r for r in rows if r["axis"] == axis and r["what"] == what and "problem" not in r]
            if not mine:
                continue
            x = [r["value"] for r in mine]
            y, low, high = ([r[c] for r in mine] for c in ("steps_per_cpu_s", "low", "high"))
            ax.plot(x, y, color=color, marker=marker, lw=2, ms=6, label=label)
            ax.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
            if what == "ppo":
                limit = [r["limit_per_cpu_s"] for r in mine]
                ax.plot(x, limit, color=INK, ls="--", lw=1.5, label="PPO's arithmetic limit, float32")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
        values = sorted({r["value"] for r in rows if r["axis"] == axis})
        ax.set_xticks(values, [f"{v:,}" for v in values], minor=False, rotation=30, ha="right")
        ax.minorticks_off()
        ax.set_xlabel(NAMES[axis], fontsize=11)
        ax.grid(color="#e3e7eb")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        if k:
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel("steps a CPU second, all runs", fontsize=11)
    handles, labels = fig.axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=11)
    fig.supxlabel(note, fontsize=9, color="#5f6b76")
    fig.savefig(file, dpi=150)


def write_csv(rows: list[dict[str, Any]], file: Path) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    made.add_argument("--rounds", type=int, default=None, help="batches of a point; default 3, or 1 with --quick")
    made.add_argument("--seconds", type=float, default=None, help="of one batch, about; default 3, or 0.1 with --quick")
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    args = made.parse_args()
    base = dataclasses.replace(BASE, device=args.device)
    base = dataclasses.replace(base, rollout=256, epochs=2) if args.quick else base
    about = machine()
    print(quick_note(args) + describe(about), flush=True)
    rounds, seconds = args.rounds or (1 if args.quick else 3), args.seconds or (0.1 if args.quick else 3.0)
    bench = Bench(args, base, seconds, rounds)
    axes = {a: v for a, v in (QUICK if args.quick else AXES).items() if a in args.axes}
    rows = rows_of(bench, axes)
    many = 20
    memory = memory_rows(bench, axes.get("cells", ()), many)
    bench.gemm.close()
    about["load_after"] = load()
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(rows, args.out / "scaling.csv")
    note = (
        f"else: S = {base.runs}, B = {base.envs}, G = {base.features}, hidden {base.hidden[0]}, N = {base.cells:,}; "
        f"one core, {about['processor']}, {bench.flops / 1e9:.0f} GFLOP/s" + ("; QUICK, means nothing" * args.quick)
    )
    figure(rows, note, args.out / "scaling.png")
    print(f"load average after: {about['load_after']}\n{note}\n")
    head = ["what", "axis", "value", "steps/CPU-s", "steps/s", "limit", "of the limit", "RSS, MB"]
    lines = []
    for r in rows:
        start = [r["what"], NAMES[r["axis"]], f"{r['value']:,}"]
        if "problem" in r:
            lines.append([*start, r["problem"], *[""] * 4])
            continue
        limit = r.get("limit_per_cpu_s")
        limits = [f"{limit:,.0f}", f"{r['steps_per_cpu_s'] / limit:.0%}"] if limit else ["", ""]
        lines.append(
            [*start, f"{r['steps_per_cpu_s']:,.0f}", f"{r['steps_per_s']:,.0f}", *limits, f"{r['rss_mb']:,.0f}"]
        )
    print(markdown(head, lines))
    if memory:
        print("\nMemory of the environment above the imports, MB\n")
        print(markdown(["cells N", "bytes of the table", "S = 1", f"S = {many}", "each further run"], memory))
    content = {"machine": about, "base": dataclasses.asdict(base), "flops": bench.flops, "rows": rows, "memory": memory}
    written = [write_json(args, "scaling", content), args.out / "scaling.csv", args.out / "scaling.png"]
    print("\nwritten: " + ", ".join(map(str, written)))


if __name__ == "__main__":
    main()
