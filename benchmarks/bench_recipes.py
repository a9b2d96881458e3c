"""What each way to write an agent costs: PPO's whole loop on one core, CPU time in turns; ``--help``."""

from __future__ import annotations

import os
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from harness import against, core_of, describe, load, machine, markdown, parser, quick_note, rates_in_turns, write_json
from torch import nn

from perturbrl.agents import kernels
from perturbrl.agents.common.learner import Learner, Stage
from perturbrl.envs.factory import observed_slices, training_cells
from perturbrl.optim.settings import NAMES
from perturbrl.plugins import (
    PPO,
    LossRecipe,
    ModuleActorCritic,
    clipped_surrogate,
    importance_ratio,
    normalise,
    value_loss,
)
from perturbrl.plugins import envs as environments
from perturbrl.rng import Streams
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.hydra.compose import compose_job


class Stepwise(PPO):
    """PPO's page as it stands, one step after another."""

    def step(self, batch, active):
        return super().step(batch, active)


class LossAlone(LossRecipe):
    """The loss of PPO, and nothing else."""

    def loss(self, heads, batch):
        c, ratio = self.c, importance_ratio(heads.log_prob, batch.log_prob)
        surrogate = clipped_surrogate(ratio, normalise(batch.advantage), c.clip)
        return c.vf_coef[:, 0] * value_loss(heads.value, batch.ret) - surrogate - c.ent_coef[:, 0] * heads.entropy


class Modules(Stepwise):
    """Plain modules of torch in place of the built-in networks."""

    @classmethod
    def make_model(cls, policies, env, slices, streams):
        def mlp(n_in, n_out):
            sizes = [n_in, *policies[0].hidden]
            hidden = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o), nn.Tanh())]
            return nn.Sequential(*hidden, nn.Linear(sizes[-1], n_out))

        return ModuleActorCritic.for_env(mlp, mlp, env, streams)


CONTENDERS: dict[str, tuple[Any, ...]] = {
    "PPO, torch executor": (Stepwise, "auto"),
    "PPO, native executor": (PPO, "auto"),
    "`LossRecipe` with PPO's loss": (LossAlone, "auto"),
    "PPO, torch executor, networks in torch (`kernels=torch`)": (Stepwise, "torch"),
    "PPO, torch executor, plain `torch.nn` modules": (Modules, "auto"),
    **{f"PPO, `agent.optimizer={name}`": (PPO, "auto", f"agent.optimizer={name}") for name in NAMES if name != "adam"},
}


def build(runs: int, recipe: Any, kernel: str, *more: str) -> Learner:
    overrides = (*more, "agent=ppo", "source=landscape", "data=joint", "source.n_cells=1000", "env=paper", "device=cpu")
    jobs = [compose_job([*overrides, f"seed={seed}"], Path("outputs"), "bench") for seed in range(runs)]
    table, configs, settings = load_cells(jobs[0]), [job.config for job in jobs], [job.config.agent for job in jobs]
    with kernels.using(kernel, "float32"):
        place, streams = torch.device("cpu"), Streams(list(range(runs)), torch.device("cpu"))
        env = environments["paper"].build([c.env for c in configs], table, training_cells(table), 32, place)
        model = recipe.make_model([c.policy for c in configs], env, observed_slices(env, table), streams)
        stage = Stage.of("ppo", settings, recipe(settings, model, streams), place)
        return Learner(model, env, streams, settings[0].rollout_steps, [stage])


def one_iteration(learner: Learner, runs: int, turn: int) -> int:
    learner.iterate(turn)
    return learner.steps_per_iteration * runs


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=None, help="default 7, or 2 with --quick")
    args = made.parse_args()
    rounds, about, rows = args.rounds or (2 if args.quick else 7), machine(), []
    if (core := core_of(args)) is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    print(quick_note(args) + describe(about))
    for runs in (1,) if args.quick else (1, 5):
        learners = {name: build(runs, *how) for name, how in CONTENDERS.items()}
        rates = rates_in_turns({name: partial(one_iteration, made, runs) for name, made in learners.items()}, rounds)
        for name, (rate, relative) in against(rates, "PPO, torch executor").items():
            rows.append([name, str(runs), str(rate), str(relative)])
    print(markdown(["agent", "S", "steps/CPU-s", "x PPO on the torch executor"], rows))
    content = {"machine": about | {"load_after": load()}, "rounds": rounds, "rows": rows}
    print(f"load average after: {load()}; written: {write_json(args, 'recipes', content)}")


if __name__ == "__main__":
    main()
