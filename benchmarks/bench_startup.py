"""Seconds and peak memory of whole commands in fresh processes: help, a tiny training, a report over 1 000 runs.

The run directories of the report are FABRICATED (``tests/fakes/runs.py``): only their number and shape matter.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import (
    ONE_THREAD,
    Spread,
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

ROOT = Path(__file__).resolve().parent.parent
TINY = ("train", "agent=ppo", "progress=quiet", "source.n_cells=1000", "schedule.total=4096")
AGENTS, DATA = ("ppo", "trpo", "trpo_ppo"), ("rna", "atac", "joint")
MAX_PERTURB = (4, 5, 6, 7, 8, 9, 10)
MB = 1e6
HELP, TRAIN, SEEDS, SWEEP = "--help", "tiny training", "report, many seeds", "report, sweep over 7 values"


@dataclasses.dataclass(frozen=True)
class Took:
    wall: float
    cpu: float
    peak: float  # bytes


@dataclasses.dataclass(frozen=True)
class Limit:
    seconds: float
    megabytes: float | None = None


LIMITS = {HELP: Limit(0.5), TRAIN: Limit(8.0), SEEDS: Limit(10.0, 500.0), SWEEP: Limit(10.0, 500.0)}


def run(arguments: Sequence[str], folder: Path, core: int | None, more: Mapping[str, str] | None = None) -> Took:
    """Run ``perturbrl`` once; peak memory is that of the process or of its largest child."""

    def pin() -> None:
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})

    environment = os.environ | ONE_THREAD | dict(more or {})
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "perturbrl", *arguments],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            preexec_fn=pin,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            tail = " | ".join(said.read().splitlines()[-3:])
            raise SystemExit(f"perturbrl {' '.join(arguments)}: exit code {process.returncode}: {tail}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Took(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def fabricate(root: Path, count: int, data: Sequence[str], sweep: bool) -> int:
    """Write at least ``count`` run directories below ``root``: many seeds, or a sweep over MAX_PERTURB."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fakes.runs import make_run

    envs = [f"paper,max_perturb={k}" for k in MAX_PERTURB] if sweep else ["paper"]
    kinds = [(agent, kind, env) for agent in AGENTS for kind in data for env in envs]
    seeds = -(-count // len(kinds))
    for agent, kind, env in kinds:
        for seed in range(seeds):
            make_run(root, agent, kind, seed, env=env, points=25)
    return len(kinds) * seeds


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--repeats", type=int, default=None, help="of each command; default 3, or 1 with --quick")
    made.add_argument("--runs", type=int, default=None, help="run directories of a report; default 1000, or 60")
    args = made.parse_args()
    repeats, count = args.repeats or (1 if args.quick else 3), args.runs or (60 if args.quick else 1000)
    core = core_of(args)
    about = machine()
    print(quick_note(args) + describe(about), flush=True)
    took: dict[str, list[Took]] = {}
    names: dict[str, str] = {}

    def measure(name: str, label: str, arguments: Sequence[str], folder: Path, more: Mapping[str, str]) -> None:
        say(f"  {label}")
        took.setdefault(label, []).append(run(arguments, folder, core, more))
        names[label] = name

    with tempfile.TemporaryDirectory(prefix="perturbrl-bench-") as place:
        folder = Path(place)
        # drawing takes seconds a table: a smoke run has one
        data, kinds = (DATA[:1], (SEEDS,)) if args.quick else (DATA, (SEEDS, SWEEP))
        reports = {label: folder / f"runs{k}" for k, label in enumerate(kinds)}
        made_runs = {label: fabricate(root, count, data, label == SWEEP) for label, root in reports.items()}
        tables = {label: len(data) * (len(MAX_PERTURB) if label == SWEEP else 1) for label in kinds}
        for k in range(repeats):
            cache = {"PERTURBRL_CACHE": str(folder / f"cache{k}")}
            measure(HELP, "perturbrl --help", ["--help"], folder, cache)
            measure(TRAIN, f"{TRAIN}, no cache of data", [*TINY, f"name=cold{k}"], folder, cache)
            measure(TRAIN, f"{TRAIN}, data in the cache", [*TINY, f"name=warm{k}"], folder, cache)
            if not args.quick:
                full = [word for word in TINY if "n_cells" not in word]
                measure("", "the same on all 10 000 cells, no cache", [*full, f"name=full{k}"], folder, cache)
            for label, root in reports.items():
                out = ["report", str(root), "--out", str(folder / f"report{k}")]
                measure(label, f"{label} ({made_runs[label]} runs, {tables[label]} tables)", out, folder, cache)
    about["load_after"] = load()
    print(f"load average after: {about['load_after']}\n{repeats} repeats, one thread each; median [min, max]\n")
    rows, misses = [], []
    for label, found in took.items():
        wall, cpu, peak = (Spread.of(x) for x in zip(*((t.wall, t.cpu, t.peak / MB) for t in found), strict=True))
        limit = LIMITS.get(names[label])
        asked = (
            "" if limit is None else f"{limit.seconds:g} s" + (f", {limit.megabytes:g} MB" if limit.megabytes else "")
        )
        rows.append([label, str(wall), str(cpu), str(peak), asked])
        if limit and (wall.median > limit.seconds or (limit.megabytes and peak.median > limit.megabytes)):
            misses.append(label)
    print(markdown(["command", "seconds", "CPU seconds", "peak memory, MB", "at most"], rows))
    print(f"\nMISSED: {'; '.join(misses)}" if misses else "\nall within their limits")
    content = {"machine": about, "took": {label: [dataclasses.asdict(t) for t in x] for label, x in took.items()}}
    print(f"\nwritten: {write_json(args, 'startup', content)}")


if __name__ == "__main__":
    main()
