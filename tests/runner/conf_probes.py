"""What a config key can change, measured: cells, features, training, evaluation, a run directory, the command line.

Each probe takes a job and a scratch folder and returns something that can be compared with ``repr``.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import requests
import torch
from omegaconf import OmegaConf, open_dict

from perturbrl import paths, records, registry
from perturbrl.agents import kernels
from perturbrl.data.fetch import cached_file
from perturbrl.errors import UserError
from perturbrl.evaluate.fate.rows import FateRows
from perturbrl.evaluate.paper.rows import PaperRows
from perturbrl.runner.build import build_learner
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.hydra.compose import compose_config
from perturbrl.runner.job import Job, make_job
from perturbrl.runner.progress import Progress
from perturbrl.runner.train import train_jobs
from perturbrl.screens.split_files import write_split

N = 24


@functools.cache
def _composed(overrides: tuple[str, ...]) -> Any:
    return compose_config(overrides)


def changed_job(overrides: tuple[str, ...], key: str = "", value: Any = None) -> Job:
    """Compose, change one key, then resolve: what an override on the command line does, but quicker."""
    config = copy.deepcopy(_composed(overrides))
    with open_dict(config):
        del config["hydra"]
    if key:
        assert OmegaConf.select(config, key, throw_on_missing=False) != value or value is None, f"{key} is {value}"
        OmegaConf.update(config, key, value, merge=False)
    return make_job(config, Path("run"))


def digest(*values: Any) -> str:
    """Hash arrays, tensors and what has a ``repr``."""
    out = hashlib.sha256()
    for value in values:
        array = value.numpy() if isinstance(value, torch.Tensor) else value
        out.update(array.tobytes() if isinstance(array, np.ndarray) else repr(array).encode())
    return out.hexdigest()


def raw(job: Job, scratch: Path) -> str:
    """The cells as the source gives them; ``pd.read_excel`` gives one table a sheet."""
    sheets = {"dCt_values.txt": 1.5, "other": 2.5}

    def read_excel(path: Any, sheet_name: str, **options: Any) -> pd.DataFrame:
        cells, genes = ["PS1", "NP2", "HF3", "4SG4"], ["A", "B", "C", "Ubc"]
        return pd.DataFrame(np.eye(4) * -sheets[sheet_name], cells, genes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pd, "read_excel", read_excel)
        cells = registry.sources[job.config.source.name].build(job.config.source)
    parts: list[Any] = []
    for name, part in cells.modalities.items():
        x = part.x if isinstance(part.x, np.ndarray) else part.x.toarray()
        parts += [name, part.kind, part.features.tolist(), x]
    return digest(*parts, cells.obs.to_csv())


def fetched(job: Job, scratch: Path) -> str:
    """What comes of asking for the file without a network: the error says where it was looked for."""

    def offline(*args: Any, **kwargs: Any) -> Any:
        raise requests.ConnectionError("no network in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "get", offline)
        patch.setenv("PERTURBRL_CACHE", str(scratch / "cache"))
        try:
            return digest(registry.sources[job.config.source.name].build(job.config.source).checksum)
        except UserError as error:
            return str(error)


def placed(job: Job, scratch: Path) -> str:
    """The same, with a file put in the cache by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTURBRL_CACHE", str(scratch / "cache"))
        file = cached_file(job.config.source.file_name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"put here by hand")
        return fetched(job, scratch)


def read(job: Job, scratch: Path) -> str:
    """Nothing: reading the cells is what may be refused."""
    load_cells(job)
    return ""


def features(job: Job, scratch: Path) -> str:
    """The table of features."""
    t = load_cells(job)
    return digest(t.x, t.features, t.slices, t.pseudotime, t.train, t.test, t.leaks)


def told(job: Job, scratch: Path) -> str:
    """What a policy is asked for and told: split, descriptions, covariates, genes."""
    t = load_cells(job)
    names = [c.name for c in t.screen.conditions]
    split = [getattr(t.split, name) for name in ("train", "validation", "test", "control_train", "control_test")]
    return digest(names, t.screen.features, t.screen.x.data, t.description, t.covariates, *split, t.screen.batches)


def predicted(job: Job, scratch: Path) -> str:
    """The evaluation of a run, without the time that it took."""
    mine = dataclasses.replace(job, path=scratch / "run")
    train_jobs([mine], Progress("quiet"))
    Evaluator().evaluate(mine.path)
    said = records.read_json(mine.path / "evaluation" / "summary.json")
    said["rows"]["policy"].pop("wall_seconds")
    files = sorted(f.name for f in (mine.path / "evaluation").iterdir())
    shown = pd.read_parquet(mine.path / "evaluation" / "changes.parquet").condition.nunique()
    rounded = {
        row: {k: v if v is None else float(f"{v:.6g}") for k, v in found.items()} for row, found in said["rows"].items()
    }
    return repr((rounded, said["header"]["n_control_cells"], said["claims"], files, shown))


def trained(job: Job, scratch: Path) -> str:
    """Parameters after every rollout is done."""
    torch.set_num_threads(1)
    kernels.configure(job.config.kernels, job.config.precision)
    learner = build_learner([job], load_cells(job), torch.device("cpu"))
    for i in range(learner.n_iterations):
        learner.iterate(i)
    return digest(learner.n_iterations, learner.model.theta)


def tried(job: Job, scratch: Path) -> str:
    """The scores of every trial of random search."""
    learner = build_learner([job], load_cells(job), torch.device("cpu"))
    return digest(*(learner.iterate(i)["trial_return"] for i in range(learner.n_iterations)))


def after_trpo(job: Job, scratch: Path) -> str:
    """Parameters after TRPO and then the job's agent, each for a rollout or more."""
    agent = job.raw["agent"]
    sizes = {key: agent[key] for key in ("rollout_steps", "n_envs", "minibatch")}
    once = {"handover": ["policy", "value", "log_std"], "clone_steps": 0, "clone_lr": agent["clone_lr"]}
    stages = {"trpo": sizes, agent["name"]: agent | {"total_steps": None}}
    both = {"name": "staged", "stages": [f"{name}:128" for name in stages], **once, **stages}
    return trained(make_job(OmegaConf.create(job.raw | {"agent": both}), scratch), scratch)


def scores(job: Job, scratch: Path) -> str:
    """Every row of an evaluation of a fixed policy."""
    c, table = job.config, load_cells(job)

    def policy(x: torch.Tensor) -> torch.Tensor:
        return x.abs().sum(-1).long() % (3 * x.shape[-1]) if c.env.name == "paper_discrete" else (9 * x).clamp(-1, 1)

    rows = PaperRows(table, c.env, c.protocol)
    return repr({name: row.numbers() for name, row in rows.of(policy).items()}) + str(len(rows.cells))


def fates(job: Job, scratch: Path) -> str:
    """Every row of an evaluation of a policy that is always done at once."""
    rows = FateRows(job.config.env, job.config.protocol)
    done = rows.tasks[0].done
    return repr({name: dict(row.numbers) for name, row in rows.of(lambda x: torch.full(x.shape[:1], done)).items()})


def recorded(job: Job, scratch: Path) -> str:
    """What a run directory says of itself once trained, without hashes and times."""
    mine = dataclasses.replace(job, path=scratch / "name" / "data" / "env" / "agent" / "seed0")
    train_jobs([mine], Progress("quiet"))
    said = records.read_json(mine.path / paths.RUN)
    for key in ("config_hash", "wall_seconds", "git_commit", "digests"):
        said.pop(key)
    return repr(said)


def logged(job: Job, scratch: Path) -> str:
    """Where the learning curve has points."""
    mine = dataclasses.replace(job, path=scratch / "run")
    train_jobs([mine], Progress("quiet"))
    frame = pd.read_parquet(mine.path / paths.PROGRESS)
    return repr(frame.get("eval/accuracy", pd.Series(dtype=float)).notna().tolist())


def curve(job: Job, scratch: Path) -> str:
    """The learning curve."""
    mine = dataclasses.replace(job, path=scratch / "run")
    train_jobs([mine], Progress("quiet"))
    frame = pd.read_parquet(mine.path / paths.PROGRESS)
    return repr(frame[[c for c in frame if c.startswith("eval/")]].to_numpy().tolist())


def writes(job: Job, scratch: Path) -> str:
    """How many files were brought to disk."""
    plain, count = os.fsync, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: count.append(plain(fd)))
        train_jobs([dataclasses.replace(job, path=scratch / "run")], Progress("quiet"))
    return str(len(count))


def machine(job: Job, scratch: Path) -> str:
    """Threads and device that training used."""
    torch.set_num_threads(1)
    try:
        train_jobs([dataclasses.replace(job, path=scratch / "run")], Progress("quiet"))
    finally:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
    run = records.read_json(scratch / "run" / paths.RUN)
    return f"{threads} {run['device']} {run['kernels']}"


def overwrites(job: Job, scratch: Path) -> str:
    """What happens to a folder that holds another run."""
    mine = dataclasses.replace(job, path=scratch / "run")
    mine.path.mkdir()
    records.write_json(mine.path / paths.RUN, {"config_hash": "another", "status": "complete"})
    with contextlib.suppress(UserError):
        return train_jobs([mine], Progress("quiet"))[0].status
    return "refused"


@functools.cache
def folder() -> Path:
    cache = Path(os.environ["PERTURBRL_CACHE"])
    cache.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=cache))


def _obs() -> dict[str, Any]:
    half = ["a", "b"] * (N // 2)
    return {
        **{"perturbation": ["ctrl", "KO1", "KO2"] * (N // 3), "label": ["ctrl", "stim"] * (N // 2)},
        **{"other_perturbation": ["KO3", "ctrl"] * (N // 2), "other_batch": half[::-1], "batch": half},
        **{"cell_type": half, "other_cell_type": ["T"] * N, "dose": [1.0, 2.0] * (N // 2), "other_dose": [3.0] * N},
        **{"pseudotime": np.linspace(0, 1, N), "other_pseudotime": np.linspace(1, 0, N)},
    }


def _part(prefix: str, seed: int) -> ad.AnnData:
    x = np.random.default_rng(seed).poisson(2.0, (N, 6)).astype(np.float32)
    names = [f"chr1:{100 * k}-{100 * k + 50}" if prefix == "peak" else f"{prefix}{k}" for k in range(6)]
    obs = pd.DataFrame(_obs(), index=[f"cell{i}" for i in range(N)])
    return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=names), layers={"other": x[::-1].copy()})


@functools.cache
def one_modality() -> str:
    """A .h5ad whose columns have common names, and others that have to be named."""
    _part("GENE", 0).write_h5ad(folder() / "cells.h5ad")
    return str(folder() / "cells.h5ad")


@functools.cache
def screen() -> str:
    """A .h5ad of single and double perturbations of its own genes, in two contexts, at three doses, in four batches."""
    rng = np.random.default_rng(0)
    n, genes = 900, 12
    labels = np.array(["ctrl"] * 4 + [f"GENE{k}" for k in range(8)] + [f"GENE{k}+GENE{k + 1}" for k in range(7)])
    label = rng.choice(labels, n)
    effect = rng.normal(0, 1, (genes, genes))
    own = np.array(
        [sum((effect[int(g[4:])] for g in name.split("+") if g != "ctrl"), np.zeros(genes)) for name in label]
    )
    x = rng.poisson(np.exp(1.5 + own))
    half, hours = rng.choice(["a", "b"], n), rng.choice([1.0, 2.0, 3.0], n)
    obs = {
        **{"perturbation": label, "other_label": rng.choice(labels, n), "cell_type": half, "dose": hours},
        **{"batch": rng.choice(["r1", "r2", "r3", "r4"], n), "bio_rep": half, "guide_confident": rng.random(n) < 0.9},
        **{"treatment": np.where(label == "ctrl", "ctrl", label + "_1h"), "time_h": hours},
        "two_doses": rng.choice([1.0, 2.0], n),
    }
    table = pd.DataFrame(obs, index=[f"cell{i}" for i in range(n)])
    names = pd.DataFrame(index=[f"GENE{k}" for k in range(genes)])
    ad.AnnData(x.astype(np.float32), obs=table, var=names).write_h5ad(folder() / "screen.h5ad")
    return str(folder() / "screen.h5ad")


@functools.cache
def prior(pathways: int = 3) -> str:
    lines = ["gene,pathway,weight,confidence"]
    lines += [f"GENE{k},P{k % pathways},{1 + k},{'AB'[k % 2]}" for k in range(12)]
    file = folder() / f"prior{pathways}.csv"
    file.write_text("\n".join(lines))
    return str(file)


def edges(hubs: int = 2) -> str:
    lines = [
        "entity1,entity2",
        *(f"GENE{k},HUB{k % hubs}" for k in range(12)),
        *(f"GENE{k},GENE{k + 1}" for k in range(5)),
    ]
    file = folder() / f"network{hubs}.csv"
    file.write_text("\n".join(lines))
    return str(file)


def split_file(*overrides: str) -> str:
    """A file with a split that another seed draws."""
    job = changed_job(overrides, "split.seed", 5)
    table = load_cells(job)
    file = folder() / f"{job.config.split.kind}.json"
    if not file.exists():
        write_split(table.split, table.screen, file)
    return str(file)


@functools.cache
def network() -> str:
    """A file with a network of three genes."""
    file = folder() / "three.bnet"
    file.write_text("targets,factors\na, a | c\nb, !a\nc, !b\n")
    return str(file)


@functools.cache
def two_modalities() -> str:
    mudata.MuData({"rna": _part("GENE", 0), "atac": _part("peak", 1)}).write(folder() / "cells.h5mu")
    return str(folder() / "cells.h5mu")


@functools.cache
def tables() -> str:
    """A folder of two tables whose rows are cells, and one of cells with as many genes."""
    place = folder() / "tables"
    place.mkdir()
    for name, seed in (("one.csv", 0), ("two.csv", 1)):
        values = np.random.default_rng(seed).poisson(2.0, (6, 6))
        pd.DataFrame(values, [f"c{i}" for i in range(6)], [f"G{i}" for i in range(6)]).to_csv(place / name)
    return str(place)


@functools.cache
def one_table() -> str:
    return str(Path(tables()) / "one.csv")


@functools.cache
def sheet() -> str:
    (folder() / "book.xlsx").write_bytes(b"")
    return str(folder() / "book.xlsx")


def planned(job: Job, scratch: Path) -> str:
    """How many rollouts each stage has."""
    learner = build_learner([job], load_cells(job), torch.device("cpu"))
    return repr([learner.stage_of(i).name for i in range(learner.n_iterations)])


def said(job: Job, scratch: Path) -> str:
    """What training prints, without numbers."""
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        train_jobs([dataclasses.replace(job, path=scratch / "run")], Progress(job.config.progress))
    return "".join(c for c in out.getvalue() if c.isalpha())
