"""The sweeps behind the golden numbers: tiny, but each task, agent and kind of kernel, two seeds as one population.

They go through the command line only, so that the modules behind it may move.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from perturbrl import cli

KERNELS = ("native", "torch")
COMPILERS = ("cc", "gcc", "clang")
AGENTS = {"ppo": ("",), "trpo": ("",), "trpo_ppo": ("trpo.", "ppo.")}
# PPO: 3 rollouts of 128 steps; TRPO -> PPO: 1 and 3. At ten times the usual step size the policies change; at thirty
# times rounding grows into the second digit (measured: AVX2 against AVX-512).
BUDGET = (
    *("schedule.total=384", "schedule.trpo=128", "schedule.ppo=384", "policy.hidden=[16,16]", "curve_points=2"),
    *("seed=0,1", "hydra/launcher=population", "hydra.launcher.workers=1"),
    *("device=cpu", "precision=float32", "progress=quiet", "checkpoint_seconds=0"),
)
ROLLOUT = ("rollout_steps=128", "n_envs=8", "lr=1e-3")
CELLS = ("source.n_target_genes=40", "source.n_peaks=60", "source.n_proteins=10")
EPISODES = ("env.horizon=20", "protocol.return_episodes=8", "protocol.search_episodes=8")
CASES: dict[str, tuple[str, ...]] = {
    "paper": ("data=joint", "source.n_cells=300", "encoder=pca", "encoder.components=8", *CELLS, *EPISODES),
    "paper_discrete": ("data=rna", "source.n_cells=200", *CELLS, *EPISODES),
    "counterfactual": (
        *("data=rna", "source.n_cells=1200", *CELLS, "conditions=landscape", "conditions.min_cells=5"),
        *("env.horizon=2", "env.residual=bilinear", "agent.clone_steps=128"),
        *("protocol.n_cells=8", "protocol.curve_cells=4", "protocol.episodes=16", "protocol.truth_cells=20"),
        *("protocol.score.n_duplicates=1",),
    ),
}
REPORT = "report"


def compiler() -> str | None:
    """The C compiler that the native kernels are built with."""
    return os.environ.get("CC") or next((c for c in COMPILERS if shutil.which(c)), None)


def command_line(*arguments: str) -> None:
    """``perturbrl`` in this process; AssertionError with what it printed if it fails."""
    printed = io.StringIO()
    code: object = None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            cli.app(list(arguments), prog_name="perturbrl")
        except SystemExit as stop:
            code = stop.code
    assert not code, f"perturbrl {' '.join(arguments)}: exit code {code}\n{printed.getvalue()}"


@contextlib.contextmanager
def empty_cache(cache: Path) -> Iterator[None]:
    """Simulate and preprocess anew, since a cache may hold cells of older code; kernels are named by their source."""
    before = os.environ.get("PERTURBRL_CACHE")
    cache.mkdir(parents=True)
    if before is not None:
        (Path(before) / "kernels").mkdir(parents=True, exist_ok=True)
        (cache / "kernels").symlink_to((Path(before) / "kernels").resolve())
    os.environ["PERTURBRL_CACHE"] = str(cache)
    try:
        yield
    finally:
        os.environ.pop("PERTURBRL_CACHE")
        if before is not None:
            os.environ["PERTURBRL_CACHE"] = before


def run(case: str, kernels: str, folder: Path) -> Path:
    """Train and evaluate one case in an empty folder; return ``folder/outputs``, with a report in it if native."""
    with contextlib.chdir(folder), empty_cache(folder / "cache"):
        for agents in (("ppo",),) if case == "paper_discrete" else (("ppo", "trpo"), ("trpo_ppo",)):
            parts = AGENTS[agents[0]]
            rollout = [f"agent.{part}{setting}" for part in parts for setting in ROLLOUT]
            asked = (f"env={case}", f"agent={','.join(agents)}", *CASES[case], *rollout, *BUDGET)
            command_line("train", "-m", *asked, f"kernels={kernels}", "name=golden")
        command_line("evaluate", "outputs")
        if kernels == "native":  # a report draws figures for seconds, and reads files only
            command_line("report", "outputs", "--out", f"outputs/{REPORT}")
    return folder / "outputs"
