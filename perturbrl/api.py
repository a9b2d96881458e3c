"""perturbrl from Python, for notebooks: train on an AnnData, evaluate, and use the policy."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from perturbrl.config import require
from perturbrl.errors import UserError
from perturbrl.runner.hydra.compose import compose, compose_config
from perturbrl.runner.progress import Progress
from perturbrl.runner.runs import Policy, Runs, load
from perturbrl.runner.sweep import sweep

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from perturbrl.landscape.plan.result import Plan


def train(
    cells: AnnData | MuData | str | Path | None = None,
    agent: str | Sequence[str] = "ppo",
    *,
    data: str = "rna",
    seeds: int | Sequence[int] = 1,
    steps: int | None = None,
    name: str = "notebook",
    out: str | Path = "outputs",
    overrides: Mapping[str, Any] | None = None,
    progress: str = "quiet",
    workers: int = 1,
) -> Runs:
    """Train agents on your cells, or on the embedded landscape if ``cells`` is None.

    Parameters
    ----------
    cells
        An AnnData, a MuData (for ``data="joint"`` or ``"cite"``), or the path of a file that ``source=file`` reads.
    agent
        A choice of ``agent=``: ``ppo``, ``trpo``, ``trpo_ppo`` or that of a plugin; or a list of them.
    data
        A choice of ``data=``: which modalities are used.
    seeds
        The number of seeds (0, 1, ...), or a list of seeds.
    steps
        Environment steps of each run, instead of those of the schedule. TRPO -> PPO spends a sixth of them on TRPO;
        with ``schedule=per_iteration`` both steps of each iteration share all of them.
    name, out
        Runs are written below ``out/name``.
    overrides
        Any other config keys, dotted: ``{"env.max_perturb": 8, "agent.lr": 3e-4}``; for every agent.
    progress
        ``quiet``, ``plain``, ``rich`` or ``auto``.
    workers
        Number of processes; 1 trains in this one.

    Returns
    -------
    Runs
        The finished runs: those of the first agent in the order of ``seeds``, then those of the next.

    Raises
    ------
    UserError
        A key or value is wrong, the cells do not fit ``data``, or a run failed.
    """
    out = Path(out)
    source = [] if cells is None else ["source=file", f"path={_spell(str(_on_disk(cells, out / name)))}"]
    composed = [
        compose([*choices, *source, f"seed={seed}", f"progress={progress}"], out, name)
        for choices in (
            _with_budgets([f"agent={each}", f"data={data}"], overrides or {}, steps) for each in _agents(agent)
        )
        for seed in _seeds(seeds)
    ]
    trained = sweep(composed, Progress(progress), workers=workers)
    for outcome in trained.failed:
        raise outcome.error if isinstance(outcome.error, UserError) else UserError(str(outcome))
    return Runs(trained.jobs)


def fate_plan(
    network: str | Path,
    source: str,
    target: str,
    *,
    cells: AnnData | MuData | str | Path | None = None,
    max_perturb: int = 1,
    label: str | None = None,
    genes: Sequence[str] = (),
    aliases: str | Path | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Rank the sets of perturbations that take cells of ``source`` to ``target``: ``perturbrl fate plan``.

    Parameters
    ----------
    network
        A shipped network (``myeloid``, ...), or the path of a .bnet, .sbml, .aeon or .csv file.
    source, target
        Fates of the network, ``attractor K``, or types of ``cells``; ``source`` may be ``progenitor``.
    cells, label
        Labelled cells with RNA: an AnnData, a MuData, or the path of a file; None: start in the fate ``source``. Their
        types are in the column ``label`` of obs; None: one with a common name.
    max_perturb, genes
        The most genes of a set; the genes that may be perturbed, empty: all.
    aliases
        A CSV of other names of genes, columns ``gene`` and ``symbols``.
    out
        Write the table, the whole plan and a page below this folder.
    settings
        Changes of ``conf/fate/plan.yaml``: ``{"duration": "permanent", "runs": 5000}``.

    Returns
    -------
    Plan
        ``candidates`` from the best on, each with probability, interval, outcomes, stability and paths.

    Raises
    ------
    UserError
        A name, file or setting is wrong, both ends are the same, or there are too few cells.
    """
    from perturbrl.runner import fate_plan as plans

    with tempfile.TemporaryDirectory() as folder:
        file = None if cells is None else _on_disk(cells, Path(folder))
        others = None if aliases is None else Path(aliases)
        request = plans.Request(source, target, str(network), file, label, others, max_perturb, genes, changes=settings)
        plan = plans.run(request)
    if out is not None:
        plans.write(plan, request, Path(out))
    return plan


def _seeds(seeds: int | Sequence[int]) -> Sequence[int]:
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    require(len(numbers) > 0, "seeds", f"{seeds!r} asks for no run; give at least one seed")
    return numbers


def _agents(agent: str | Sequence[str]) -> list[str]:
    agents = [agent] if isinstance(agent, str) else list(agent)
    require(len(agents) > 0, "agent", "an empty list; give at least one, such as ppo")
    require(len(set(agents)) == len(agents), "agent", f"{', '.join(agents)}: one of them is there twice")
    return agents


def _with_budgets(choices: list[str], overrides: Mapping[str, Any], steps: int | None) -> list[str]:
    """Return the overrides of a run: its choices, the budgets that ``steps`` stands for, and the user's own."""
    changes = [f"{key}={_spell(value)}" for key, value in overrides.items()]
    if steps is None:
        return [*choices, *changes]
    budgets = _budgets(steps, compose_config([*choices, *changes]))
    spelled = [f"schedule.{key}={n}" for key, n in budgets.items() if f"schedule.{key}" not in overrides]
    return [*choices, *spelled, *changes]


def _budgets(steps: int, config: DictConfig) -> dict[str, int]:
    """Share ``steps`` between the stages of an agent; stages that are interleaved use every step both."""
    if config.agent.get("mode") == "interleaved":
        return {"total": steps, "trpo": steps, "ppo": steps}
    return {"total": steps, "trpo": steps // 6, "ppo": steps - steps // 6}


def _spell(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)


def _on_disk(cells: AnnData | MuData | str | Path, folder: Path) -> Path:
    """Return a file of the cells; what is in memory is written beside the runs, so that they can be evaluated later."""
    if isinstance(cells, str | Path):
        return Path(os.path.realpath(cells))
    folder.mkdir(parents=True, exist_ok=True)
    kind = "h5mu" if hasattr(cells, "mod") else "h5ad"
    draft = folder / f".cells.{kind}"
    cells.write(draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()[:12]
    return draft.replace(folder / f"cells-{digest}.{kind}").resolve()


__all__ = ["Policy", "Runs", "UserError", "fate_plan", "load", "train"]
