"""Training rate of every agent of one stage, against PPO in the same rounds, CPU time on one core; ``--help``."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from harness import Spread, core_of, describe, load, machine, markdown, parser, quick_note, write_json

from perturbrl import registry
from perturbrl.agents import kernels
from perturbrl.agents.common.learner import Learner
from perturbrl.runner.build import build_learner
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.hydra.compose import compose_job

BASE = "ppo"
OF_STAGES = ("staged", "trpo_from_ppo", "trpo_ppo", "ppo_kl", "lora")  # the rate is that of their stages
# an iteration of these is short, or long, beside a rollout of PPO; budgets so large that no stage ends
ITERATIONS = {"a2c": 25, "sac": 1}
SETTINGS = {
    "a2c": ["schedule.total=10000000"],
    "sac": ["agent.rollout_steps=128", "agent.buffer=100000", "schedule.total=10000000"],
}


def build(agent: str) -> Learner:
    task = ["source=landscape", "data=joint", "source.n_cells=1000", "env=paper", "device=cpu", "curve_points=0"]
    budget = SETTINGS.get(agent, ["schedule.total=1000000000"])
    job = compose_job([*task, f"agent={agent}", *budget], Path("outputs"), "bench")
    kernels.configure(job.config.kernels, job.config.precision)
    return build_learner([job], load_cells(job), torch.device("cpu"))


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=None, help="default 5, or 1 with --quick")
    made.add_argument("--only", nargs="+", default=None, help=f"some agents; {BASE} is always there")
    args = made.parse_args()
    rounds, about = args.rounds or (1 if args.quick else 5), machine()
    if (core := core_of(args)) is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    names = [name for name in registry.agents if name not in OF_STAGES]
    names = [name for name in names if args.only is None or name in (BASE, *args.only)]
    print(quick_note(args) + describe(about))
    learners, done = {name: build(name) for name in names}, dict.fromkeys(names, 0)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):  # the first warms up
        for name in names[:: 1 if turn % 2 else -1]:
            before, iterations = time.process_time(), ITERATIONS.get(name, 1)
            for _ in range(iterations):
                learners[name].iterate(done[name])
                done[name] += 1
            steps = learners[name].steps_per_iteration * iterations
            rates[name].append(steps / (time.process_time() - before))
    rows = []
    for name, rate in rates.items():
        relative = Spread.of(a / b for a, b in zip(rate[1:], rates[BASE][1:], strict=True))
        rows.append([f"`{name}`", str(Spread.of(rate[1:])), str(relative)])
    print(markdown(["agent", "steps/CPU-s", f"x {BASE}"], rows))
    content = {"machine": about | {"load_after": load()}, "rounds": rounds, "rows": rows}
    print(f"load average after: {load()}; written: {write_json(args, 'every_agent', content)}")


if __name__ == "__main__":
    main()
