"""Environment steps a second, the drawing of the uniforms included: ``python benchmarks/bench_env.py --help``."""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf

import perturbrl.envs  # noqa: F401  (registers the tasks)
from perturbrl import paths, registry
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import BatchedEnv
from perturbrl.rng import Streams

CHUNK = 64  # steps whose uniforms are drawn at once, as a rollout does


def gaussian_table(n_cells: int, n_features: int) -> CellTable:
    rng = np.random.default_rng(0)
    return CellTable(
        x=rng.standard_normal((n_cells, n_features), dtype=np.float32),
        features=tuple(f"g{i}" for i in range(n_features)),
        slices={"rna": slice(0, n_features)},
        pseudotime=np.arange(n_cells, dtype=np.float64),
        train=np.arange(n_cells),
        test=np.arange(0),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n_cells)]),
        source="gaussian",
        checksum="",
    )


def build(name: str, n_runs: int, n_envs: int, table: CellTable, device: str) -> BatchedEnv:
    config = registry.envs.bind(OmegaConf.load(paths.conf_dir() / "env" / f"{name}.yaml"))
    env: BatchedEnv = registry.envs[name].build([config] * n_runs, table, table.train, n_envs, device)
    return env


def steps_per_second(env: BatchedEnv, seconds: float, device: str) -> float:
    """Time steps under one fixed batch of random actions, after a chunk of warm-up."""
    streams = Streams(range(env.n_runs), device)
    space = env.action_space
    shape = (env.n_envs, space.size) if space.kind == "box" else (env.n_envs,)
    uniform = streams.uniform("action", 0, shape)
    action = uniform * 2 - 1 if space.kind == "box" else (uniform * space.size).long()
    env.reset(streams.uniform("env", 0, (env.n_envs, env.n_uniforms)))
    steps, iteration, start, elapsed = 0, 0, 0.0, 0.0
    while elapsed < seconds:
        iteration += 1
        u = streams.uniform("env", iteration, (CHUNK, env.n_envs, env.n_uniforms))
        for t in range(CHUNK):
            env.step(action, u[:, t])
        if device != "cpu":
            torch.cuda.synchronize()
        if iteration == 1:
            start = time.perf_counter()
        else:
            steps += CHUNK * env.n_runs * env.n_envs
            elapsed = time.perf_counter() - start
    return steps / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", nargs="+", default=["paper", "paper_discrete"])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 10], help="S")
    parser.add_argument("--cells", type=int, nargs="+", default=[1, 64, 1024], help="B")
    parser.add_argument("--features", type=int, default=64, help="G")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = gaussian_table(10_000, args.features)
    print(f"torch {torch.__version__}, {args.device}, {args.threads} thread(s), G={args.features}")
    print(f"{'env':16s}{'S':>6s}{'B':>8s}{'steps/s':>16s}")
    for name in args.env:
        for n_runs in args.runs:
            for n_envs in args.cells:
                env = build(name, n_runs, n_envs, table, args.device)
                print(f"{name:16s}{n_runs:6d}{n_envs:8d}{steps_per_second(env, args.seconds, args.device):16,.0f}")


if __name__ == "__main__":
    main()
