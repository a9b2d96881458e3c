"""Seconds and peak memory of a large perturbation screen: reading, splitting, describing, means, and the evaluation.

The screen is GENERATED (counts at one density, every perturbation moves a few genes): only its size matters. Each stage
runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    NO_GPU,
    ONE_THREAD,
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

GB = 1e9
LIMIT_GB = 8.0
LIMIT_SCORE_SECONDS = 600.0
ROWS = ("no_change", "best_constant", "train_mean", "bilinear", "kernel_ridge")
CHUNK = 5_000


@dataclasses.dataclass(frozen=True)
class Size:
    cells: int
    genes: int
    perturbations: int
    density: float


FULL, SMALL = Size(1_000_000, 2_000, 1_000, 0.1), Size(20_000, 300, 60, 0.1)


def generate(file: Path, size: Size, seed: int = 0) -> None:
    """Write a .h5ad of counts piece by piece: one cell in twenty is a control, in two batches."""
    import h5py
    import pandas as pd
    from anndata.io import write_elem

    rng = np.random.default_rng(seed)
    genes = [f"GENE{k}" for k in range(size.genes)]
    target = rng.integers(0, size.perturbations, size.cells)
    target[rng.random(size.cells) < 0.05] = size.perturbations
    names = np.array(
        [*genes[: size.perturbations], *(f"X{k}" for k in range(size.perturbations - size.genes)), "control"]
    )
    shown = np.clip(rng.gamma(2.0, size.density / 2.0, size.genes), 0.002, 0.9)
    hit = rng.integers(0, size.genes, (size.perturbations + 1, 20))
    with h5py.File(file, "w") as out:
        out.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        x = out.create_group("X")
        x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (size.cells, size.genes)})
        data = x.create_dataset("data", (0,), np.float32, maxshape=(None,), chunks=(1 << 20,))
        indices = x.create_dataset("indices", (0,), np.int32, maxshape=(None,), chunks=(1 << 20,))
        indptr = np.zeros(size.cells + 1, dtype=np.int64)
        for start in range(0, size.cells, CHUNK):
            own = target[start : start + CHUNK]
            chance = np.broadcast_to(shown.astype(np.float32), (len(own), size.genes)).copy()
            rows = np.arange(len(own))[:, None]
            chance[rows, hit[own]] = np.where(own[:, None] < size.perturbations, 0.5, chance[rows, hit[own]])
            there = rng.random(chance.shape, dtype=np.float32) < chance
            columns = np.nonzero(there)[1].astype(np.int32)
            first = len(data)
            for dataset, values in ((indices, columns), (data, 1.0 + rng.poisson(0.5, len(columns)))):
                dataset.resize((first + len(columns),))
                dataset[first:] = values
            indptr[start + 1 : start + 1 + len(own)] = first + np.cumsum(there.sum(axis=1))
        x.create_dataset("indptr", data=indptr)
        index = pd.Index([f"cell{k}" for k in range(size.cells)])
        obs = pd.DataFrame(
            {
                "perturbation": pd.Categorical(names[target]),
                "batch": pd.Categorical(np.where(rng.random(size.cells) < 0.5, "b1", "b2")),
            },
            index=index,
        )
        write_elem(out, "obs", obs)
        write_elem(out, "var", pd.DataFrame(index=genes))


class Stages:
    """Seconds of each stage, and the peak memory of the process after it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        took = {"stage": name, "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        self.rows.append({**took, "peak_gb": peak / GB})
        return result


def configs(kind: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir

    from perturbrl import paths, registry
    from perturbrl.config import bind
    from perturbrl.data.preprocess import DataConfig
    from perturbrl.screens.conditions import ConditionsConfig
    from perturbrl.screens.describe import DescriptionConfig

    chosen = ["+data=rna", "+conditions=auto", f"+split={kind}", "+description=default"]
    with initialize_config_dir(str(paths.conf_dir()), version_base=None):
        node = compose(overrides=chosen)
    bound = {"data": DataConfig, "conditions": ConditionsConfig, "description": DescriptionConfig}
    return {name: bind(schema, node[name], name) for name, schema in bound.items()} | {
        "split": registry.splits.bind(node.split)
    }


def prepare(file: Path, kind: str, stages: Stages) -> Any:
    """Read, split, select and describe, as ``load_perturbations`` does, but step by step."""
    from perturbrl.data.sources.file import build, default_config
    from perturbrl.screens.describe import describe as describe_conditions
    from perturbrl.screens.genes import select
    from perturbrl.screens.load import load_screen
    from perturbrl.screens.split import split_screen

    config = configs(kind)
    raw = stages("read the file", lambda: build(default_config(file)))
    screen = stages("conditions, log-normalise", lambda: load_screen(raw, config["data"], config["conditions"]))
    split = stages("split, leak checks", lambda: split_screen(screen, config["split"]))
    chosen = stages("select features", lambda: select(screen, split, config["data"]))
    return stages("describe", lambda: describe_conditions(chosen, split, config["description"]))


def measure_load(file: Path, stages: Stages) -> None:
    from perturbrl.screens.genes import profiles

    screen = (table := prepare(file, "unseen_single", stages)).screen
    stages("means of training conditions", lambda: profiles(screen, table.split.train))
    stages("means of all conditions", lambda: profiles(screen, np.arange(len(screen.condition))))


def measure_score(file: Path, stages: Stages) -> None:
    """Score on held-out cells of every perturbation, so that all of them are test conditions."""
    from omegaconf import OmegaConf

    from perturbrl import paths
    from perturbrl.config import bind
    from perturbrl.effects.baselines import BaselineContext, make_baseline
    from perturbrl.evaluate.counterfactual import ScoreConfig, observe_effects, predict, score

    table = prepare(file, "iid_cells", stages)
    node = OmegaConf.load(paths.conf_dir() / "protocol" / "counterfactual.yaml")
    config = bind(ScoreConfig, node.score, "protocol.score")
    truth = stages("truth", lambda: observe_effects(table, config))
    predictions = {}
    for name in ROWS:
        baseline = make_baseline(name, BaselineContext(seed=0, action_rms=0.1))
        stages(f"fit {name}", lambda b=baseline: b.fit(table))
        predictions[name] = predict(baseline, truth)
    found = stages(f"score {len(ROWS)} rows", lambda: score(truth, predictions))
    say(f"  scored {found.frame['condition'].nunique()} conditions")


CHILDREN = {"load": measure_load, "score": measure_score}


def child(stage: str, file: Path) -> None:
    stages = Stages()
    CHILDREN[stage](file, stages)
    print(json.dumps(stages.rows))


def run(stage: str, file: Path, core: int | None) -> list[dict[str, Any]]:
    def pin() -> None:
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})

    done = subprocess.run(
        [sys.executable, __file__, "--child", stage, str(file)],
        env=os.environ | ONE_THREAD | NO_GPU,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=pin,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--only", choices=sorted(CHILDREN), nargs="+", default=list(CHILDREN), help="what to measure")
    made.add_argument("--cells", type=int, default=None, help="cells; default 1 000 000, or 20 000 with --quick")
    made.add_argument("--file", type=Path, default=None, help="keep the generated file here, or use it if it is there")
    args = made.parse_args()
    size = dataclasses.replace(SMALL if args.quick else FULL, **({"cells": args.cells} if args.cells else {}))
    about = machine()
    print(quick_note(args) + describe(about), flush=True)
    content: dict[str, Any] = {"machine": about, "size": dataclasses.asdict(size)}
    misses = []
    with tempfile.TemporaryDirectory(prefix="perturbrl-bench-") as place:
        file = args.file or Path(place) / "screen.h5ad"
        if not file.exists():
            say(f"  generating {size.cells} cells x {size.genes} genes")
            start = time.perf_counter()
            generate(file, size)
            say(f"  {file.stat().st_size / GB:.2f} GB in {time.perf_counter() - start:.0f} s")
        for stage in args.only:
            say(f"  {stage}, load {load()}")
            rows = content[stage] = run(stage, file, core_of(args))
            print(f"\n{stage}: {size.cells:,} cells x {size.genes:,} genes, {size.perturbations:,} perturbations\n")
            shown = [[r["stage"], *(f"{r[k]:.2f}" for k in ("seconds", "cpu", "peak_gb"))] for r in rows]
            total = [sum(r[k] for r in rows) for k in ("seconds", "cpu")]
            shown.append(["in all", *(f"{t:.2f}" for t in total), f"{rows[-1]['peak_gb']:.2f}"])
            print(markdown(["stage", "seconds", "CPU seconds", "peak memory so far, GB"], shown), flush=True)
            if rows[-1]["peak_gb"] > LIMIT_GB:
                misses.append(f"{stage}: {rows[-1]['peak_gb']:.1f} GB, at most {LIMIT_GB:g}")
            if stage == "score" and rows[-1]["seconds"] > LIMIT_SCORE_SECONDS:
                misses.append(f"score: {rows[-1]['seconds']:.0f} s, at most {LIMIT_SCORE_SECONDS:g}")
    about["load_after"] = load()
    print(f"\nload average after: {about['load_after']}")
    print(f"MISSED: {'; '.join(misses)}" if misses else "all within their limits")
    print(f"\nwritten: {write_json(args, 'screen', content)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
