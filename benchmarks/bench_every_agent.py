"""Training rate of every agent of one stage, against PPO in the same rounds, CPU time on one core; ``--help``."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch
from harness import against, core_of, describe, load, machine, markdown, parser, quick_note, rates_in_turns, write_json

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


def iterations(learner: Learner, n: int, turn: int) -> int:
    for k in range(n):
        learner.iterate(turn * n + k)
    return learner.steps_per_iteration * n


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
    turns = {name: partial(iterations, build(name), ITERATIONS.get(name, 1)) for name in names}
    rates = against(rates_in_turns(turns, rounds), BASE)
    rows = [[f"`{name}`", str(rate), str(relative)] for name, (rate, relative) in rates.items()]
    print(markdown(["agent", "steps/CPU-s", f"x {BASE}"], rows))
    content = {"machine": about | {"load_after": load()}, "rounds": rounds, "rows": rows}
    print(f"load average after: {load()}; written: {write_json(args, 'every_agent', content)}")


if __name__ == "__main__":
    main()
