"""Who is measured. Each contender is built in a process of its own and then called once an iteration."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Settings

if TYPE_CHECKING:
    from perturbrl.data.schema import CellTable

BATCHED = 64  # cells stepped together by the peers that can
About = dict[str, Any]
Iterate = Callable[[], int]


@dataclass(frozen=True)
class Contender:
    """``build`` gets the settings and a dict to put remarks in; it returns a function that does one iteration."""

    label: str
    algorithm: str
    build: Callable[[Settings, About], Iterate]
    needs: tuple[str, ...] = ()
    own: bool = False  # one of perturbrl's rows

    @property
    def missing(self) -> list[str]:
        return [module for module in self.needs if importlib.util.find_spec(module) is None]


def table(s: Settings) -> CellTable:
    """Standard normal features in the order of pseudotime: rates do not depend on the numbers."""
    import numpy as np
    import pandas as pd

    from perturbrl.data.schema import CellTable

    rng = np.random.default_rng(0)
    return CellTable(
        x=rng.standard_normal((s.cells, s.features), dtype=np.float32),
        features=tuple(f"g{i}" for i in range(s.features)),
        slices={"rna": slice(0, s.features)},
        pseudotime=np.arange(s.cells, dtype=np.float64),
        train=np.arange(s.cells),
        test=np.arange(0),
        obs=pd.DataFrame(index=pd.RangeIndex(s.cells)),
        source="gaussian",
        checksum="",
    )


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def own_settings(algorithm: str, s: Settings) -> About:
    """What the settings are called in ``conf/agent/<algorithm>.yaml``; A2C keeps its own short rollouts."""
    if algorithm == "ppo":
        return {"rollout_steps": s.rollout, "minibatch": s.minibatch, "epochs": s.epochs}
    if algorithm == "trpo":
        critic = {"minibatch": s.critic_minibatch, "critic_epochs": s.epochs}
        natural = {"cg_iterations": s.cg_iterations, "fisher_fraction": s.fisher_fraction}
        return {"rollout_steps": s.rollout, **critic, **natural}
    if algorithm == "a2c":
        return {"total_steps": 10**7}  # a row of the log for each of its rollouts has to fit in memory
    return {}


def ours(algorithm: str, *variant: str) -> Callable[[Settings, About], Iterate]:
    def build(s: Settings, about: About) -> Iterate:
        one_thread()
        import torch
        from worker import resident_bytes

        from perturbrl.agents import kernels
        from perturbrl.runner.build import build_learner
        from perturbrl.runner.hydra.compose import compose_job

        asked = {
            "agent": algorithm,
            "schedule.total": 10**9,
            "device": s.device,
            "policy.hidden": f"[{','.join(map(str, s.hidden))}]",
            **{f"agent.{key}": value for key, value in own_settings(algorithm, s).items()},
            "agent.lr": s.lr,
            **({} if s.envs is None else {"agent.n_envs": s.envs}),
        }
        overrides = [*(f"{key}={value}" for key, value in asked.items()), *variant, *s.overrides]
        jobs = [compose_job([*overrides, f"seed={k}"], Path("outputs"), "bench") for k in range(s.runs)]
        about["kernels"] = kernels.configure(jobs[0].config.kernels, jobs[0].config.precision)
        about["rss_imports"] = resident_bytes()
        cells = table(s)
        about |= {"rss_table": resident_bytes(), "table_bytes": cells.x.nbytes, "n_envs": jobs[0].config.agent.n_envs}
        learner = build_learner(jobs, cells, torch.device(s.device))
        about["rss_built"] = resident_bytes()
        about["parameter_bytes"] = learner.model.theta.nbytes
        iteration = 0

        def iterate() -> int:
            nonlocal iteration
            metrics = learner.iterate(iteration)
            for values in metrics.values():
                values.tolist()  # as the training loop logs them
            iteration += 1
            return learner.steps_per_iteration * s.runs

        return iterate

    return build


def environment(s: Settings, about: About) -> Iterate:
    """The task alone, S runs x B cells, the drawing of its uniforms included, under one fixed batch of actions."""
    one_thread()
    import torch
    from omegaconf import OmegaConf
    from worker import resident_bytes

    import perturbrl.envs  # noqa: F401  (registers the tasks)
    from perturbrl import paths, registry
    from perturbrl.rng import Streams

    chunk, n_envs = 64, s.envs or BATCHED  # steps whose uniforms are drawn at once, as a rollout does
    about["rss_imports"] = resident_bytes()
    cells = table(s)
    about |= {"rss_table": resident_bytes(), "table_bytes": cells.x.nbytes, "n_envs": n_envs}
    name = next((o.partition("=")[2] for o in s.overrides if o.startswith("env=")), "paper")
    config = registry.envs.bind(OmegaConf.load(paths.conf_dir() / "env" / f"{name}.yaml"))
    env = registry.envs[name].build([config] * s.runs, cells, cells.train, n_envs, s.device)
    about["rss_built"] = resident_bytes()
    streams = Streams(range(s.runs), s.device)
    space = env.action_space
    box = space.kind == "box"
    uniform = streams.uniform("action", 0, (n_envs, space.size) if box else (n_envs,))
    action = uniform * 2 - 1 if box else (uniform * space.size).long()
    env.reset(streams.uniform("reset", 0, (n_envs, env.n_uniforms)))
    iteration = 0

    def iterate() -> int:
        nonlocal iteration
        u = streams.uniform("env", iteration, (chunk, n_envs, env.n_uniforms))
        for t in range(chunk):
            env.step(action, u[:, t])
        if s.device != "cpu":
            torch.cuda.synchronize()
        iteration += 1
        return int(chunk * s.runs * n_envs)

    return iterate


def numpy_environment(s: Settings, about: About) -> Iterate:
    from peers.numpy_cell import NumpyCell

    env = NumpyCell(table(s).x)
    env.reset(seed=0)
    action = env.action_space.sample()

    def iterate() -> int:
        for _ in range(1000):
            if env.step(action)[2]:
                env.reset()
        return 1000

    return iterate


def stable_baselines(algorithm: str, face: str) -> Callable[[Settings, About], Iterate]:
    def build(s: Settings, about: About) -> Iterate:
        one_thread()
        from peers import sb3
        from peers.numpy_cell import NumpyCell

        from perturbrl.envs import make, make_vec

        cells = table(s)
        envs: dict[str, Callable[[], Any]] = {
            "numpy": lambda: NumpyCell(cells.x),
            "torch": lambda: make("paper", cells),
            "batched": lambda: sb3.BatchedCells(make_vec("paper", cells, s.envs or BATCHED)),
            "batched_16": lambda: sb3.BatchedCells(make_vec("paper", cells, 16)),
        }
        return sb3.build(algorithm, s, envs[face]())

    return build


def stable_baselines_sac(n_envs: int) -> Callable[[Settings, About], Iterate]:
    def build(s: Settings, about: About) -> Iterate:
        one_thread()
        from peers import sb3
        from peers.numpy_cell import NumpyCell

        from perturbrl.envs import make_vec

        cells = table(s)
        env: Any = NumpyCell(cells.x) if n_envs == 1 else sb3.BatchedCells(make_vec("paper", cells, n_envs))
        return sb3.build_sac(s, SAC_STEPS, env)

    return build


def cleanrl(batched: bool, fused: bool = False, compiled: bool = False) -> Callable[[Settings, About], Iterate]:
    def build(s: Settings, about: About) -> Iterate:
        one_thread()
        from gymnasium.vector import AutoresetMode, SyncVectorEnv
        from peers.cleanrl_style import PPO
        from peers.numpy_cell import NumpyCell

        from perturbrl.envs import make_vec

        cells = table(s)
        envs: Any = (
            make_vec("paper", cells, s.envs or BATCHED)
            if batched
            else SyncVectorEnv([lambda: NumpyCell(cells.x)], autoreset_mode=AutoresetMode.SAME_STEP)
        )
        return PPO(envs, s.rollout, s.hidden, s.minibatch, s.epochs, s.lr, fused, compiled).iterate

    return build


def jax_agent(algorithm: str) -> Callable[[Settings, About], Iterate]:
    def build(s: Settings, about: About) -> Iterate:
        from peers import jax_ppo

        loop = jax_ppo.iterate
        if algorithm == "trpo":
            from peers.jax_trpo import iterate as loop
        return jax_ppo.Run(s, table(s).x, s.envs or BATCHED, loop)

    return build


def matrix_product(s: Settings, about: About) -> Iterate:
    """float32 products of 1024 x 1024: how fast one core can multiply at all. Counts FLOP, not steps."""
    one_thread()
    import torch

    n = 1024
    a, b, c = (torch.randn(n, n) for _ in range(3))

    def iterate() -> int:
        torch.mm(a, b, out=c)
        return 2 * n**3

    return iterate


SB3, CONTRIB, JAX = ("stable_baselines3",), ("stable_baselines3", "sb3_contrib"), ("jax",)


def own_rows(algorithm: str, *always: str) -> dict[str, Contender]:
    """One run and a population, in float32 and with products in bfloat16, and one run without the native kernels."""
    rows = {
        "": ("one run", ()),
        "-population": ("population of {runs}", ()),
        "-torch": ("one run, kernels=torch", ("kernels=torch",)),
        "-bf16": ("one run, precision=bf16", ("precision=bf16",)),
        "-population-bf16": ("population of {runs}, precision=bf16", ("precision=bf16",)),
    }
    return {
        algorithm + end: Contender(f"perturbrl, {label}", algorithm, ours(algorithm, *always, *variant), own=True)
        for end, (label, variant) in rows.items()
    }


ONE_CELL = ("agent.n_envs=1", "agent.rollout_steps=5")  # the default of Stable-Baselines3's A2C
SAC_STEPS = 128  # of one iteration: at one gradient step each it takes as long as a rollout of PPO
SAC = (f"agent.rollout_steps={SAC_STEPS}", "agent.buffer=100000", "schedule.total=10000000")
CONTENDERS = {
    "gemm": Contender("float32 matrix product, one core", "arithmetic", matrix_product),
    "env": Contender("perturbrl, environment alone", "env", environment),
    "env-numpy": Contender("numpy cell, environment alone", "env", numpy_environment),
    **own_rows("ppo"),
    "ppo-sb3": Contender("Stable-Baselines3, 1 environment (numpy)", "ppo", stable_baselines("ppo", "numpy"), SB3),
    "ppo-sb3-torch": Contender("Stable-Baselines3, 1 of our CellEnv", "ppo", stable_baselines("ppo", "torch"), SB3),
    "ppo-sb3-64": Contender("Stable-Baselines3, 64 batched", "ppo", stable_baselines("ppo", "batched"), SB3),
    "ppo-cleanrl": Contender("CleanRL style, 1 environment (numpy)", "ppo", cleanrl(False)),
    "ppo-cleanrl-64": Contender("CleanRL style, 64 batched", "ppo", cleanrl(True)),
    "ppo-cleanrl-fused": Contender("CleanRL style, 64 batched, fused Adam", "ppo", cleanrl(True, fused=True)),
    "ppo-cleanrl-compiled": Contender(
        "CleanRL style, 64 batched, fused, torch.compile", "ppo", cleanrl(True, fused=True, compiled=True)
    ),
    "ppo-jax": Contender("JAX, all compiled, 64 batched", "ppo", jax_agent("ppo"), JAX),
    **own_rows("trpo"),
    "trpo-sb3": Contender("sb3-contrib, 1 environment (numpy)", "trpo", stable_baselines("trpo", "numpy"), CONTRIB),
    "trpo-sb3-64": Contender("sb3-contrib, 64 batched", "trpo", stable_baselines("trpo", "batched"), CONTRIB),
    "trpo-jax": Contender("JAX, all compiled, 64 batched", "trpo", jax_agent("trpo"), JAX),
    **own_rows("a2c"),
    "a2c-1": Contender("perturbrl, one run, 1 environment", "a2c", ours("a2c", *ONE_CELL), own=True),
    "a2c-sb3": Contender("Stable-Baselines3, 1 environment (numpy)", "a2c", stable_baselines("a2c", "numpy"), SB3),
    "a2c-sb3-16": Contender("Stable-Baselines3, 16 batched", "a2c", stable_baselines("a2c", "batched_16"), SB3),
    **own_rows("sac", *SAC),
    "sac-8": Contender(
        "perturbrl, one run, a gradient step for 8", "sac", ours("sac", *SAC, "agent.n_envs=8"), own=True
    ),
    "sac-sb3": Contender("Stable-Baselines3, 1 environment (numpy)", "sac", stable_baselines_sac(1), SB3),
    "sac-sb3-8": Contender("Stable-Baselines3, 8 batched, a gradient step for 8", "sac", stable_baselines_sac(8), SB3),
}
NOT_BY_DEFAULT = ("ppo-cleanrl-compiled",)  # compiling takes minutes, and needs a C++ compiler
