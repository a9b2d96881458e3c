"""For every key of every YAML in conf/: another value, and what it must change (or why it must be refused)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbrl.experiment import Job

from . import conf_probes as p
from .tiny import small

Probe = Callable[[Job, Path], str]


@dataclass(frozen=True)
class Change:
    """``value`` instead of the default must change what ``probe`` sees of a run with the overrides ``given``.

    With ``refused`` the value must be an error that says so. ``key`` is changed in place of the YAML's own.
    """

    value: Any
    probe: Probe | None = None
    given: tuple[str, ...] = ()
    refused: str = ""


def refuse(value: Any, said: str, *given: str) -> Change:
    return Change(value, None, given, said)


NAME = refuse("nobody", "'nobody' is not known")
QUICK = (
    *("schedule.total=128", "schedule.trpo=64", "schedule.ppo=64", "env.horizon=20", "curve_points=0"),
    *("source.n_cells=120", "source.n_target_genes=12", "source.n_peaks=16", "source.n_proteins=6"),
    *("encoder.components=4", "policy.hidden=[8]", "threads=1"),
)


def base(group: str, choice: str) -> tuple[str, ...]:
    """Overrides under which the keys of conf/<group>/<choice>.yaml are looked at."""
    agent = choice if group == "agent" else "ppo"
    parts = ("trpo.", "ppo.") if agent == "trpo_ppo" else ("",)
    sizes = [f"agent.{part}{key}" for part in parts for key in ("rollout_steps=64", "n_envs=8", "minibatch=16")]
    chosen = [f"{group}={choice}"] if group not in ("", "agent") else []
    asked = small(agent, *QUICK, *sizes, *chosen)
    if group == "source" and choice != "landscape":
        asked = [o for o in asked if not o.startswith("source.")]
    if group == "encoder" and choice != "pca":
        asked = [o for o in asked if not o.startswith("encoder.")]
        if choice in ("gat", "random_gat"):
            asked += ["encoder.hidden=4", "encoder.out=3"]
        if choice == "gat":
            asked += ["encoder.epochs=2", "encoder.components=3"]
    if group == "schedule":  # keys that stand in the YAML with budgets; the file's own are kept
        asked = [o for o in asked if not o.startswith(("schedule.", "agent."))]
    return tuple(asked)


def merged(own: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """Let later overrides replace earlier ones; the keys of the landscape go where another source is chosen."""
    last = {o.partition("=")[0]: o for o in (*own, *given)}
    other = last.get("source", "source=landscape") != "source=landscape"
    return tuple(o for key, o in last.items() if not (other and key in {s.partition("=")[0] for s in QUICK}))


def columns(path: str) -> dict[str, Change]:
    given = (f"path={path}",)
    names = ("perturbation", "batch", "cell_type", "dose", "pseudotime")
    keys = {f"{name}_key": Change(f"other_{name}", p.raw, given) for name in names}
    return keys | {"control_label": Change("KO1", p.raw, (*given, "source.perturbation_key=perturbation"))}


def remote(path: str) -> dict[str, Change]:
    return {
        "name": NAME,
        "path": Change(path, p.fetched),
        "url": Change("https://example.org/other", p.fetched),
        "sha256": Change("0" * 64, p.placed),
        "file_name": Change("other.bin", p.fetched),
    }


def h5ad_layer(path: str) -> dict[str, Change]:
    return {"layer": Change("other", p.raw, (f"path={path}",))}


def source_keys() -> dict[str, dict[str, Change]]:
    h5ad, h5mu = p.one_modality(), p.two_modalities()
    single = ("source.perturbations=single",)
    shapes = {"n_cells": 90, "n_target_genes": 10, "n_peaks": 20, "n_proteins": 5, "n_batches": 3}
    numbers = {
        **{"seed": 1, "noise": 0.3, "dropout": 0.5, "batch_effect": 0.9},
        **{"rna_depth": 500.0, "atac_depth": 300.0, "protein_depth": 99.0},
    }
    return {
        "landscape": {
            "name": NAME,
            "perturbations": Change("single", p.raw),
            "overexpression": Change(1.2, p.raw, single),
            **{key: Change(value, p.raw) for key, value in (shapes | numbers).items()},
        },
        "pbmc68k_reduced": {"name": NAME, "cell_type_key": Change("phase", p.raw)},
        "file": {
            "name": NAME,
            "path": Change(h5mu, p.raw, (f"path={h5ad}",)),
            "modality": Change("protein", p.raw, (f"path={h5ad}",)),
            **columns(h5ad),
            **h5ad_layer(h5ad),
        },
        "pbmc10k_multiome": {
            **remote(h5mu),
            **columns(h5mu),
            "modality": Change("rna", p.raw, (f"path={h5mu}",)),
            **h5ad_layer(h5mu),
        },
        "iqcell_tcell": {
            **remote(h5ad),
            **columns(h5ad),
            "member": Change("two.csv", p.raw, (f"path={p.tables()}", "source.member=one.csv")),
            "rows": Change("genes", p.raw, (f"path={p.one_table()}",)),
        },
        "moignard15": {
            **remote(p.sheet()),
            "sheet": Change("other", p.raw, (f"path={p.sheet()}",)),
            "drop_genes": Change(["A"], p.raw, (f"path={p.sheet()}",)),
        },
        **{name: {**remote(h5ad), **columns(h5ad), **h5ad_layer(h5ad)} for name in ("paul15", "norman19", "kang18")},
    }


ATAC, PROTEIN = ("data.modalities=[atac]",), ("data.modalities=[protein]",)
DATA = {
    "name": Change("mine", p.record),
    "modalities": Change(["protein"], p.features),
    "preset": Change("released", p.features),
    "target_sum": Change(10.0, p.features),
    "log1p": Change(False, p.features),
    "tfidf_scale": Change(10.0, p.features, ATAC),
    "clr": Change(False, p.features, PROTEIN),
    "select": Change("mutual_information", p.features, ("data.n_features.rna=8",)),
    "n_features.rna": Change(8, p.features),
    "n_features.atac": Change(8, p.features),
    "n_features.protein": Change(5, p.features),
    "scale": Change(False, p.features),
    "pseudotime": Change("row", p.features),
    "root": Change("cell_17", p.features),
    "dpt_pcs": Change(3, p.features),
    "dpt_neighbors": Change(8, p.features),
    "dpt_components": Change(3, p.features),
}
GRAPH = {"k": 5, "hidden": 5, "heads": 1, "out": 4, "dropout": 0.5, "weights_seed": 1}
ENCODER = {
    "none": {"name": NAME},
    "pca": {"name": NAME, "components": Change(3, p.features)},
    "random_gat": {"name": NAME} | {key: Change(value, p.features) for key, value in GRAPH.items()},
    "gat": {"name": NAME}
    | {key: Change(v, p.features) for key, v in (GRAPH | {"epochs": 3, "learning_rate": 0.1, "components": 2}).items()},
}
PAPER = {
    "name": NAME,
    **{key: Change(value, p.trained) for key, value in {"horizon": 7, "step_size": 0.5, "clip": 0.7}.items()},
    **{"perturb_prob": Change(0.1, p.trained), "max_perturb": Change(2, p.trained)},
    "time_limit": Change("truncated", p.trained, ("env.horizon=5",)),
}
GENE = {"reward_gene": Change("step", p.trained), "reward_gene_weight": Change(2.0, p.trained)}
ENV = {"paper": PAPER, "paper_discrete": PAPER | GENE}
COMMON = {
    **{"total_steps": 64, "rollout_steps": 32, "n_envs": 4, "minibatch": 32},
    **{"lr": 3e-3, "gamma": 0.5, "gae_lambda": 0.3, "normalise_advantage": False},
}
WIDE = ("agent.target_kl=5.0",)  # steps so long that the line search has something to do
AGENT = {
    "ppo": {
        "name": NAME,
        **{key: Change(value, p.trained) for key, value in COMMON.items()},
        **{key: Change(value, p.trained) for key, value in {"epochs": 2, "clip": 0.01, "vf_coef": 3.0}.items()},
        **{"ent_coef": Change(0.1, p.trained), "max_grad_norm": Change(0.05, p.trained)},
        "target_kl": Change(1e-9, p.trained),
    },
    "trpo": {
        "name": NAME,
        **{key: Change(value, p.trained, WIDE) for key, value in COMMON.items()},
        **{"target_kl": Change(0.02, p.trained), "kl": Change("summed", p.trained), "damping": Change(1.0, p.trained)},
        **{"cg_iterations": Change(2, p.trained), "critic_epochs": Change(2, p.trained)},
        "line_search_shrink": Change(0.3, p.trained, ("agent.target_kl=50.0",)),
        "line_search_tries": Change(1, p.trained, ("agent.target_kl=50.0",)),
    },
    "trpo_ppo": {
        "name": NAME,
        "mode": Change("interleaved", p.trained),
        "handover": Change("parameters_and_moments", p.trained),
        "trpo.total_steps": Change(128, p.trained),
        "ppo.total_steps": Change(128, p.trained),
    },
}
POLICY = {
    "net": Change("branches", p.trained, ("data=joint",)),
    "hidden": Change([6], p.trained),
    "activation": Change("relu", p.trained),
    "log_std": Change(-1.0, p.trained),
}
PROTOCOL = {
    "name": Change("mine", p.record),
    "n_cells": Change(10, p.scores),
    "clip": Change(0.5, p.scores),
    "discrete_step": Change(1.0, p.scores, ("env=paper_discrete",)),
    "return_episodes": Change(4, p.scores),
    "search_episodes": Change(2, p.scores),
    "max_steps": Change(3, p.scores),
    "seed": Change(1, p.scores),
}
TWO = ("agent=trpo_ppo",)
BUDGETS = tuple(f"schedule.{key}=64" for key in ("total", "trpo", "ppo"))
TINY_BUDGETS = (*BUDGETS, "agent.rollout_steps=64", "agent.n_envs=8", "agent.minibatch=16")
STAGES = {
    "name": Change("mine", p.record, TINY_BUDGETS),
    "mode": refuse("interleaved", "both stages need the same", *TWO),
    "total": Change(999, p.planned),
    "trpo": Change(999, p.planned, TWO),
    "ppo": Change(999, p.planned, TWO),
}
SCHEDULE = {
    "released": STAGES,
    "equal": STAGES,
    "text": STAGES | {"mode": Change("interleaved", p.planned, TWO)},
    "per_iteration": STAGES
    | {"mode": Change("stages", p.planned, TWO)}
    | {key: refuse(999, "both stages need the same", *TWO) for key in ("trpo", "ppo")},
}
SPLIT = {
    "kind": refuse("genes", "split.kind: 'genes' is not known"),
    "test_fraction": Change(0.4, p.features),
    "seed": Change(7, p.features),
}
TOP = {
    "seed": Change(1, p.trained),
    "name": Change("other", p.record),
    "path": Change("", p.raw),  # replaced below: it needs files
    "device": Change("cuda", p.machine),
    "threads": Change(2, p.machine),
    "progress": Change("plain", p.said),
    "checkpoint_seconds": Change(1000, p.writes),
    "curve_points": Change(2, p.logged),
    "force": Change(True, p.overwrites),
}


def table() -> dict[tuple[str, str], dict[str, Change]]:
    """(group, choice) -> key -> change."""
    files: dict[str, dict[str, dict[str, Change]]] = {
        "source": source_keys(),
        "data": dict.fromkeys(("rna", "atac", "cite", "joint"), DATA),
        "encoder": ENCODER,
        "env": ENV,
        "agent": AGENT,
        "policy": {"mlp": POLICY},
        "protocol": {"paper": PROTOCOL},
        "schedule": SCHEDULE,
        "split": {"cells": SPLIT},
    }
    path = Change(p.two_modalities(), p.raw, ("source=file", f"path={p.one_modality()}"))
    return {(g, c): keys for g, choices in files.items() for c, keys in choices.items()} | {
        ("", "config"): TOP | {"path": path}
    }
