"""For every key of every YAML in conf/: another value, and what it must change (or why it must be refused)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perturbrl.runner.job import Job

from . import conf_probes as p
from . import fate_keys
from .tiny import PARTS, small

Probe = Callable[[Job, Path], str]


@dataclass(frozen=True)
class Change:
    """``value`` instead of the default must change what ``probe`` sees of a run with the overrides ``given``.

    With ``refused`` the value must be an error that says so, of ``probe``, or where there is none of reading the cells.
    An error that is not expected is no effect. ``base`` takes the place of what is usual for the file.
    """

    value: Any
    probe: Probe | None = None
    given: tuple[str, ...] = ()
    refused: str = ""
    base: tuple[str, ...] = ()


def refuse(value: Any, said: str, *given: str) -> Change:
    return Change(value, None, given, said)


NAME = refuse("nobody", "'nobody' is not known")
QUICK = (
    *("schedule.total=128", "schedule.trpo=64", "schedule.ppo=64", "env.horizon=20", "curve_points=0"),
    *("source.n_cells=120", "source.n_target_genes=12", "source.n_peaks=16", "source.n_proteins=6"),
    *("encoder.components=4", "policy.hidden=[8]", "threads=1"),
)


PAPER_TASK = {("env", "paper"), ("env", "paper_discrete"), ("protocol", "paper"), ("split", "cells")}
FATES = {("env", "fate"): (), ("env", "gattaca"): ("env=gattaca",), ("protocol", "fate"): ()}


def of_screens(group: str, choice: str) -> bool:
    """Whether only the task of held-out perturbations has a use for the file."""
    return group in COUNTERFACTUAL and (group, choice) not in (PAPER_TASK | FATES.keys())


def base(group: str, choice: str) -> tuple[str, ...]:
    """Overrides under which the keys of conf/<group>/<choice>.yaml are looked at."""
    if of_screens(group, choice):
        return screen_base(group, choice)
    if (group, choice) in FATES:
        return merged(fate_keys.base(), FATES[group, choice])
    agent = choice if group == "agent" else "ppo"
    sizes = agent_sizes(agent)
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


def agent_sizes(agent: str) -> list[str]:
    """Overrides that make the rollouts of an agent small."""
    parts = PARTS.get(agent, ("",))
    keys = ("rollout_steps=64", "n_envs=8", *(() if agent in NO_MINIBATCH else ("minibatch=16",)))
    return [f"agent.{part}{key}" for part in parts for key in keys] + SHORT.get(agent, [])


def merged(own: tuple[str, ...], given: tuple[str, ...]) -> tuple[str, ...]:
    """Let later overrides replace earlier ones; the keys of the landscape go where another source is chosen."""
    last = {o.partition("=")[0]: o for o in (*own, *given)}
    other = last.get("source", "source=landscape") != "source=landscape"
    landscape = {s.partition("=")[0] for s in QUICK if s.startswith("source.")}
    return tuple(o for key, o in last.items() if not (other and key in landscape))


COUNTERFACTUAL = ("env", "conditions", "description", "protocol", "split")


def screen_base(group: str, choice: str) -> tuple[str, ...]:
    """The same for the task of held-out perturbations."""
    landscape = group == "conditions" and choice.startswith("landscape")
    source = [o for o in QUICK if o.startswith("source.")] if landscape else ["source=file", f"path={p.screen()}"]
    chosen = [] if group == "env" else [f"{group}={choice}"]
    contexts = ["conditions.context=cell_type"] if choice == "unseen_context" else []
    doses = ["conditions.dose=dose"] if choice == "unseen_dose" else []
    return (
        *("env=counterfactual", "agent=ppo", "conditions.min_cells=3", *chosen, *source, *contexts, *doses),
        *("schedule.total=128", "agent.rollout_steps=64", "agent.n_envs=8", "agent.minibatch=16", "policy.hidden=[8]"),
        *("curve_points=0", "protocol.episodes=8", "protocol.score.n_duplicates=1", "protocol.n_cells=6"),
        *("checkpoint_seconds=0", "device=cpu", "progress=quiet", "threads=1"),
    )


def cloned(agent: str, key: str) -> Change:
    """A key of cloning, which needs a task that demonstrates something."""
    sizes = agent_sizes(agent)
    task = [o for o in screen_base("env", "counterfactual") if not o.startswith("agent")]
    some = [] if key == "clone_steps" else ["agent.clone_steps=64"]
    return Change(
        CLONED[key], p.trained, base=(*task, f"agent={agent}", *sizes, *some, "schedule.trpo=64", "schedule.ppo=128")
    )


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
    generated = ("source.network=random", "source.n_regulators=8")
    shapes = {"n_cells": 90, "n_target_genes": 10, "n_peaks": 20, "n_proteins": 5, "n_batches": 3}
    numbers = {
        **{"seed": 1, "noise": 0.3, "dropout": 0.5, "batch_effect": 0.9, "capture": 0.2},
        **{"rna_depth": 500.0, "atac_depth": 300.0, "protein_depth": 99.0},
    }
    return {
        "landscape": {
            "name": NAME,
            "perturbations": Change("single", p.raw),
            "overexpression": Change(1.2, p.raw, single),
            "network": Change(p.network(), p.raw),
            "family": Change("feed_forward", p.raw, generated),
            "n_regulators": Change(9, p.raw, generated),
            "network_seed": Change(1, p.raw, generated),
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
    "name": Change("mine", p.recorded),
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
    "root": Change("cell017", p.features),
    "dpt_pcs": Change(3, p.features),
    "dpt_neighbors": Change(8, p.features),
    "dpt_components": Change(3, p.features),
}
GRAPH = {"k": 5, "hidden": 5, "heads": 1, "out": 4, "dropout": 0.5, "weights_seed": 1}
TRAINED = {"epochs": 3, "optimizer": "sgd", "learning_rate": 0.1, "components": 2}
ENCODER = {
    "none": {"name": NAME},
    "pca": {"name": NAME, "components": Change(3, p.features)},
    "random_gat": {"name": NAME} | {key: Change(value, p.features) for key, value in GRAPH.items()},
    "gat": {"name": NAME} | {key: Change(v, p.features) for key, v in (GRAPH | TRAINED).items()},
}
PAPER = {
    "name": NAME,
    **{key: Change(value, p.trained) for key, value in {"horizon": 7, "step_size": 0.5, "clip": 0.7}.items()},
    **{"perturb_prob": Change(0.1, p.trained), "max_perturb": Change(2, p.trained)},
    "time_limit": Change("truncated", p.trained, ("env.horizon=5",)),
    "threshold_rate": Change(0.1, p.trained),
}
GENE = {"reward_gene": Change("step", p.trained), "reward_gene_weight": Change(2.0, p.trained)}
SCREEN_ENV = {
    "name": NAME,
    **{key: Change(value, p.trained) for key, value in {"horizon": 3, "state": "genes", "action": "de"}.items()},
    **{key: Change(value, p.trained) for key, value in {"state_size": 3, "action_size": 2, "step_size": 0.5}.items()},
    **{key: Change(value, p.trained) for key, value in {"reward": "mse", "residual": "bilinear", "pool": 5}.items()},
    "max_train_targets": Change(1, p.trained, ("split=additive",)),
    "mates": Change(2, p.trained, ("env.reward=energy",)),
}
ENV = {"paper": PAPER, "paper_discrete": PAPER | GENE, "counterfactual": SCREEN_ENV}
ENV |= {"fate": fate_keys.env(Change, NAME), "gattaca": fate_keys.gattaca(Change, NAME)}
COMMON = {
    **{"total_steps": 64, "rollout_steps": 32, "n_envs": 4, "minibatch": 32},
    **{"lr": 3e-3, "gamma": 0.5, "gae_lambda": 0.3, "normalise_advantage": False},
}
WEIGHTS = {"vf_coef": 3.0, "ent_coef": 0.1, "max_grad_norm": 0.05}
CLONED = {"clone_steps": 64, "clone_lr": 0.1}
NO_MINIBATCH = ("a2c", "random_search")
SHORT = {agent: ["env.horizon=4"] for agent in ("grpo", "random_search", "rloo")}  # whole episodes within a rollout
EPISODES = {
    "name": NAME,
    **{
        key: Change(value, p.trained)
        for key, value in COMMON.items()
        if key not in ("gae_lambda", "normalise_advantage")
    },
    **{"group": Change(2, p.trained), "max_grad_norm": Change(0.05, p.trained)},
}
WIDE = ("agent.target_kl=5.0",)  # steps so long that the line search has something to do
THREE = ("schedule.total=192",)  # a rollout for each stage
SAC = {
    **{"total_steps": 64, "rollout_steps": 32, "n_envs": 4, "minibatch": 32, "lr": 3e-3, "gamma": 0.5},
    **{"train_freq": 2, "gradient_steps": 2, "learning_starts": 64, "buffer": 16},
    **{"ent_coef": 0.1, "tune_ent_coef": False, "target_entropy": 20.0},
}
AGENT = {
    "a2c": {
        "name": NAME,
        **{key: Change(value, p.trained) for key, value in COMMON.items() if key != "minibatch"},
        **{key: Change(value, p.trained) for key, value in {"vf_coef": 3.0, "ent_coef": 0.1}.items()},
        **{"max_grad_norm": Change(0.05, p.trained), "normalise_advantage": Change(True, p.trained)},
    },
    "grpo": {
        **EPISODES,
        **{key: Change(value, p.trained) for key, value in {"epochs": 2, "clip": 0.01, "kl_coef": 3.0}.items()},
        "reference_every": Change(None, p.trained, ("agent.kl_coef=3.0",)),
    },
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
        "fisher_fraction": Change(0.25, p.trained),
        **{"cg_iterations": Change(2, p.trained), "critic_epochs": Change(2, p.trained)},
        "line_search_shrink": Change(0.3, p.trained, ("agent.target_kl=50.0",)),
        "line_search_tries": Change(1, p.trained, ("agent.target_kl=50.0",)),
    },
    "random_search": {
        "name": NAME,
        **{key: Change(COMMON[key], p.tried) for key in ("total_steps", "rollout_steps", "n_envs", "gamma")},
        "sigma": Change(3.0, p.tried),
    },
    "rloo": EPISODES,
    "lora": {
        "name": NAME,
        "pretrained": Change("nowhere", p.recorded, THREE, "is no run directory"),
        **{key: Change(v, p.trained, THREE) for key, v in {"rank": 2, "alpha": 1.0, "adapter_lr": 0.1}.items()},
        **{f"{net}_layers": Change("output", p.trained, THREE) for net in ("policy", "value")},
        **{key: Change(value, p.trained, THREE) for key, value in {"biases": True, "log_std": False}.items()},
        **{f"{stage}_share": Change(0.0, p.planned, THREE) for stage in ("convex", "nonconvex")},
    },
    "sac": {
        "name": NAME,
        **{key: Change(value, p.trained) for key, value in SAC.items()},
        "tau": Change(0.5, p.trained, ("agent.gradient_steps=4", "agent.lr=0.01")),
    },
    "trpo_ppo": {
        "name": NAME,
        "mode": Change("interleaved", p.trained),
        "handover": Change("parameters_and_moments", p.trained),
        "trpo.total_steps": Change(128, p.trained),
        "ppo.total_steps": Change(128, p.trained),
        "trpo.clone_steps": refuse(64, r"is 64 but agent\.clone_steps is 0"),
        "trpo.clone_lr": refuse(0.1, r"is 0\.1 but agent\.clone_lr is 0\.001"),
        "ppo.clone_steps": refuse(64, r"is 64 but agent\.clone_steps is 0"),
        "ppo.clone_lr": refuse(0.1, r"is 0\.1 but agent\.clone_lr is 0\.001"),
    },
}
FLOW_TASK = (
    *(o for o in screen_base("env", "counterfactual") if not o.startswith("agent")),
    *("agent=flow", "agent.rollout_steps=32", "agent.minibatch=16", "agent.network.hidden=8", "agent.lr=0.01"),
    *("agent.network.embedding=4", "agent.network.blocks=1", "agent.network.neighbours=2", "agent.sampling.steps=2"),
)


def flow(value: Any, *given: str, probe: Probe = p.trained) -> Change:
    """A key of ``agent=flow``, which needs cells of perturbations."""
    return Change(value, probe, base=merged(FLOW_TASK, given))


GROUPS, TOKENS = ("agent.group=4",), ("agent.network.kind=transformer",)
AGENT["flow"] = {
    "name": Change("nobody", None, (), NAME.refused, FLOW_TASK),
    **{key: flow(value) for key, value in {"total_steps": 64, "rollout_steps": 48, "minibatch": 32}.items()},
    **{key: flow(value) for key, value in {"group": 4, "pool": 3, "lr": 0.1, "lr_schedule": "constant"}.items()},
    **{key: flow(value) for key, value in {"weight_decay": 0.5, "max_grad_norm": 1e-3, "ema": 0.0}.items()},
    **{key: flow(value) for key, value in {"control_share": 0.9, "drop": 0.5}.items()},
    "mmd": flow(0.5, *GROUPS),
    "effect": flow("direct", "agent.shrinkage=1", probe=p.predicted),
    "shrinkage": flow(0.5, probe=p.predicted),
    **{f"network.{key}": flow(value) for key, value in {"hidden": 4, "blocks": 2, "embedding": 2}.items()},
    **{f"network.{key}": flow(value) for key, value in {"kind": "transformer", "conditioning": "adaln"}.items()},
    **{f"network.{key}": flow(value, *TOKENS) for key, value in {"heads": 2, "neighbours": 5}.items()},
    "path.start": flow("control"),
    "path.start_noise": flow(2.0, "agent.path.start=control"),
    "path.pairing": flow("optimal_transport", *GROUPS),
    "sampling.method": flow("heun", "agent.shrinkage=1", probe=p.predicted),
    "sampling.steps": flow(5, "agent.shrinkage=1", probe=p.predicted),
    "sampling.guidance": flow(3.0, "agent.shrinkage=1", "agent.drop=0.3", probe=p.predicted),
}
AGENT |= {  # methods that differ from PPO or TRPO in a few keys
    "copg": {**AGENT["ppo"]},
    "fop": AGENT["ppo"] | {"hyper_lr": Change(0.1, p.trained), "normalised": Change(False, p.trained)},
    "fr_ppo": {key: change for key, change in AGENT["ppo"].items() if key != "clip"}
    | {"tau": Change(0.5, p.trained), "distance": Change("density", p.trained)},
    "npg": {key: change for key, change in AGENT["trpo"].items() if not key.startswith("line_search")},
    "trgppo": AGENT["ppo"]
    | {
        "delta": Change(0.5, p.trained, ("agent.lr=0.05",)),  # or no ratio reaches the clip
        "delta_discrete": Change(0.5, p.trained, ("agent.lr=0.05", "env=paper_discrete")),
    },
}
# of the update after the first, which is the first that beta or its target changes
THRICE = ("agent.total_steps=192",)
AGENT["ppo_penalty"] = {
    "name": NAME,
    **{key: Change(value, p.trained) for key, value in COMMON.items()},
    **{key: Change(value, p.trained) for key, value in {"epochs": 2, "beta": 9.0, "kl": "summed"}.items()},
    **{key: Change(value, p.trained) for key, value in WEIGHTS.items()},
    "kl_target": Change(1e-9, p.trained, THRICE),
    "measure": Change(False, p.after_trpo, ("agent.kl_target=1.0e-9",)),
}
AGENT["ppo_released"] = {
    "name": NAME,
    **{key: Change(value, p.trained) for key, value in COMMON.items()},
    **{key: Change(value, p.trained) for key, value in WEIGHTS.items()},
}
STAGED = {
    "name": NAME,
    "stages": Change(["ppo:64", "trpo:128"], p.planned),
    "handover": Change(["policy", "value"], p.trained),
}
AGENT |= {"staged": STAGED, "trpo_from_ppo": {key: STAGED[key] for key in ("name", "stages")}}
AGENT["ppo_kl"] = {
    "name": NAME,
    "variant": refuse("released", r"agent\.ppo_penalty: agent\.stages has no stage of that name"),
    "stages": Change(["ppo_penalty:64", "trpo:128"], p.planned),
}
for own in AGENT.keys() - {"flow", "lora", "ppo_kl", "sac", "trpo_from_ppo"}:
    if own != "random_search":
        AGENT[own] = AGENT[own] | {key: cloned(own, key) for key in CLONED}
NO_OPTIMIZER = refuse("nobody", "agent.optimizer.name: 'nobody' is not known")
MOMENTS = {
    "name": NO_OPTIMIZER,
    **{key: Change(value, p.trained) for key, value in {"beta1": 0.5, "beta2": 0.9, "eps": 1e-2}.items()},
}
SWITCH = {
    **{"lr_min": 5e-5, "adaptive": 5.0, "scope": "global", "moment": "first", "bias_correction": False},
}
ASGD = MOMENTS | {key: Change(value, p.trained) for key, value in SWITCH.items()}
OPTIMIZER = {
    **{f"{name}_99": {"beta2": MOMENTS["beta2"]} for name in ("adam", "amsgrad")},
    **{"adam": MOMENTS, "amsgrad": MOMENTS, "asgd_adam": ASGD, "asgd_amsgrad": ASGD},
    "adamw": MOMENTS | {"weight_decay": Change(0.5, p.trained)},
    "padam": MOMENTS | {"partial": Change(0.3, p.trained)},
    "rmsprop": {"name": NO_OPTIMIZER, "alpha": Change(0.5, p.trained), "eps": Change(1e-2, p.trained)},
    "sgd": {"name": NO_OPTIMIZER, "momentum": Change(0.5, p.trained), "nesterov": Change(True, p.trained)},
}
POLICY = {
    "net": Change("branches", p.trained, ("data=joint",)),
    "hidden": Change([6], p.trained),
    "activation": Change("relu", p.trained),
    "log_std": Change(-1.0, p.trained),
}
PROTOCOL = {
    "name": NAME,
    "n_cells": Change(10, p.scores),
    "clip": Change(0.5, p.scores),
    "discrete_step": Change(1.0, p.scores, ("env=paper_discrete",)),
    "return_episodes": Change(4, p.scores),
    "search_episodes": Change(2, p.scores),
    "max_steps": Change(3, p.scores, refused="an episode has not ended after 3 steps"),
    "seed": Change(1, p.scores),
}
TWO = ("agent=trpo_ppo",)
BUDGETS = tuple(f"schedule.{key}=64" for key in ("total", "trpo", "ppo"))
TINY_BUDGETS = (*BUDGETS, "agent.rollout_steps=64", "agent.n_envs=8", "agent.minibatch=16")
STAGES = {
    "name": Change("mine", p.recorded, TINY_BUDGETS),
    "mode": refuse("interleaved", "both stages need the same", *TWO),
    "total": Change(999, p.planned),
    "trpo": Change(999, p.planned, TWO),
    "ppo": Change(999, p.planned, TWO),
}
SCHEDULE = {
    "released": STAGES,
    "equal": STAGES,
    "readme": STAGES | {"trpo": Change(9999, p.planned, TWO)},
    "text": STAGES | {"mode": Change("interleaved", p.planned, TWO)},
    "per_iteration": STAGES
    | {"mode": Change("stages", p.planned, TWO)}
    | {key: refuse(999, "both stages need the same", *TWO) for key in ("trpo", "ppo")},
}
SCORE = {
    **{"alpha": 0.5, "min_log_fold": 2.0, "min_cpm": 1e5, "n_top": 3, "n_components": 2, "max_cells": 5},
    **{"max_controls": 5, "n_duplicates": 2, "seed": 1},
}
CLAIMS = {"metric": "wr2_delta", "agents": ["ppo"], "alpha": 0.2}
SCREEN_PROTOCOL = {
    "name": NAME,
    "curve_cells": Change(2, p.curve, ("curve_points=1",)),
    **{key: Change(value, p.predicted) for key, value in {"n_cells": 3, "episodes": 16, "success": 1e-9}.items()},
    **{key: Change(value, p.predicted) for key, value in {"shown": 1, "export": True, "seed": 1}.items()},
    "truth_cells": Change(0, p.predicted, ("protocol.truth_cells=20",), base=screen_base("conditions", "landscape")),
    **{f"score.{key}": Change(value, p.predicted) for key, value in SCORE.items()},
    **{f"claims.{key}": Change(value, p.predicted) for key, value in CLAIMS.items()},
}
CONDITIONS = {
    "name": Change("mine", p.recorded),
    "perturbation": Change("other_label", p.told),
    "control": Change(["GENE7"], p.told),
    "separator": Change("_", p.told),
    "strip_suffix": Change("7$", p.told),
    "effects": Change({"7": -1.0}, p.told),
    "context": Change("cell_type", p.told),
    "dose": Change("dose", p.told),
    "batch": Change("bio_rep", p.told),
    "keep": Change("guide_confident", p.told),
    "min_cells": Change(45, p.told),
    "max_targets": Change(1, p.told),
}
NOT = Change(None, p.told)
DOSES = (
    "description.kinds=[gene_embedding]",
    "source.perturbations=[Pu1_ko,Eklf_kd0.5,Fli1_oe1.5,Gfi1_flip,Gata1_ko,Scl_oe@40]",
)
NAMED = {
    "auto": CONDITIONS,
    "landscape": {
        "name": CONDITIONS["name"],
        **{f"effects.{key}": Change(3.0, p.told, ("description.kinds=[gene_embedding]",)) for key in ("_ko", "_oe")},
    },
    "landscape_doses": {
        "name": CONDITIONS["name"],
        **{f"effects.{key}": Change(3.0, p.told, DOSES) for key in ("_ko", "_kd", "_oe", "_flip")},
    },
    "papalexi": {
        **{"name": CONDITIONS["name"], "keep": NOT, "batch": Change("batch", p.told)},
        "max_targets": Change(2, p.told),
    },
    "norman_mcfaline": {"name": CONDITIONS["name"], "context": NOT},
    "a549": {
        **{"name": CONDITIONS["name"], "perturbation": Change("other_label", p.told), "strip_suffix": NOT},
        **{"dose": NOT, "max_targets": Change(2, p.told)},
    },
}
PRIOR = ("description.kinds=[prior]", f"description.prior={p.prior()}")
NETWORK = ("description.kinds=[network]", f"description.network={p.edges()}")
DESCRIPTION = {
    "name": Change("mine", p.recorded),
    "kinds": Change(["one_hot"], p.told),
    "components": Change(2, p.told),
    "scale": Change(False, p.told),
    "prior": Change(p.prior(pathways=4), p.told, PRIOR),
    "prior_components": Change(1, p.told, PRIOR),
    "prior_keep": Change({"confidence": ["A"]}, p.told, PRIOR),
    "network": Change(p.edges(hubs=3), p.told, NETWORK),
    "network_aliases": Change({"GENE1": "GENE4"}, p.told, NETWORK),
    "network_shuffle": Change(True, p.told, NETWORK),
}


def screen_splits() -> dict[str, dict[str, Change]]:
    keys = {
        "kind": refuse("genes", "split.kind: 'genes' is not known"),
        "seed": Change(7, p.told),
        **{key: Change(value, p.told) for key, value in {"test_fraction": 0.7, "validation_fraction": 0.6}.items()},
        **{
            "combination_fraction": Change(0.9, p.told),
            "held_out": refuse("nowhere", "is no (batch|context) of this screen"),
        },
        **{"few_shot": Change(2, p.told), "direction": Change("interpolation", p.told)},
    }
    some = ("kind", "seed", "validation_fraction")
    own = {
        **dict.fromkeys(("unseen_single", "additive", "iid_cells"), (*some, "test_fraction")),
        "combinations": (*some, "test_fraction", "combination_fraction"),
        "unseen_context": (*some, "held_out", "few_shot"),
        "unseen_dose": (*some, "direction"),
        "unseen_batch": (*some, "held_out"),
    }
    few = {"unseen_batch": "conditions.batch=bio_rep", "unseen_dose": "conditions.dose=two_doses"}
    rest = {kind: {"validation_fraction": Change(0.6, p.told, (given,))} for kind, given in few.items()}
    files = {kind: {"file": Change(p.split_file(*screen_base("split", kind)), p.told)} for kind in own}
    return {kind: {key: keys[key] for key in names} | rest.get(kind, {}) | files[kind] for kind, names in own.items()}


SPLIT = {
    "kind": refuse("genes", "split.kind: 'genes' is not known"),
    "test_fraction": Change(0.4, p.features),
    "seed": Change(7, p.features),
}
TOP = {
    "seed": Change(1, p.trained),
    "name": Change("other", p.recorded),
    "path": Change("", p.raw),  # replaced below: it needs files
    "device": Change("cuda", p.machine, refused="" if torch.cuda.is_available() else "torch sees no GPU here"),
    "threads": Change(2, p.machine),
    "kernels": Change("torch", p.machine),
    "precision": Change("bf16", p.trained),
    "progress": Change("plain", p.said),
    "checkpoint_seconds": Change(1000, p.writes),
    "curve_points": Change(2, p.logged),
    "force": Change(True, p.overwrites),
    "compare_published": Change(True, p.recorded),
}


def table() -> dict[tuple[str, str], dict[str, Change]]:
    """(group, choice) -> key -> change."""
    files: dict[str, dict[str, dict[str, Change]]] = {
        "source": source_keys(),
        "data": dict.fromkeys(("rna", "atac", "cite", "joint"), DATA),
        "encoder": ENCODER,
        "env": ENV,
        "agent": AGENT,
        "agent/optimizer": OPTIMIZER,
        "policy": {"mlp": POLICY, "relu": POLICY | {"activation": Change("tanh", p.trained)}},
        "protocol": {"paper": PROTOCOL, "counterfactual": SCREEN_PROTOCOL, "fate": fate_keys.protocol(Change, NAME)},
        "schedule": SCHEDULE,
        "split": {"cells": SPLIT, **screen_splits()},
        "conditions": NAMED,
        "description": {"default": DESCRIPTION},
    }
    path = Change(p.two_modalities(), p.raw, ("source=file", f"path={p.one_modality()}"))
    return {(g, c): keys for g, choices in files.items() for c, keys in choices.items()} | {
        ("", "config"): TOP | {"path": path}
    }
