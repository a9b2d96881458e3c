"""For every key of conf/env/fate.yaml, conf/env/gattaca.yaml and conf/protocol/fate.yaml: another value."""

from __future__ import annotations

from typing import Any

from . import conf_probes as p

NETWORK = ("env.network=random", "env.n_regulators=7")
STAGES = ("env.start=progenitor", "env.target=erythrocyte", "env.stages=[megakaryocyte-erythroid progenitor]")
HILL = ("env.between=updates", "env.n_updates=3")
HELD = ("env.duration=held", "env.hold_updates=3", "env.n_updates=30")
POTENTIAL, TEMPTING, COUNTS = ("env.shaping=potential",), ("env.shaping=tempting",), ("env.observation=counts",)

ENV: dict[str, tuple[Any, tuple[str, ...]]] = {
    "network": ("toggle", ()),
    "family": ("modular", NETWORK),
    "n_regulators": (8, NETWORK),
    "network_seed": (1, NETWORK),
    "inputs": ({"Gata2": False}, ()),
    "start": ("progenitor", ()),
    "target": ("fates", ()),
    "stages": ([], STAGES),
    "dynamics": ("hill", HILL),
    "update": ("synchronous", ("env.n_updates=50",)),
    "noise": (0.9, (*HILL, "env.dynamics=hill")),
    "moves": ("set", ()),
    "duration": ("permanent", ("env.n_updates=30",)),
    "hold_updates": (9, HELD),
    "between": ("updates", ("env.n_updates=30",)),
    "n_updates": (1, ()),
    "max_perturb": (1, ()),
    "n_decisions": (1, ()),
    "time_limit": ("truncated", ("env.n_decisions=2",)),
    "controllable": (["Gata1", "Pu1", "Cebpa"], ()),
    "reward": (3.0, ()),
    "stage_reward": (1.0, STAGES),
    "bonus": (0.5, ()),
    "cost": (0.5, ()),
    "shaping": ("potential", ()),
    "shaping_weight": (3.0, POTENTIAL),
    "lure": ("erythrocyte", TEMPTING),
    "discount": (0.5, POTENTIAL),
    "observation": ("counts", ()),
    "molecules": (5, COUNTS),
    "capture": (0.1, COUNTS),
}
GATTACA = {
    **{"start": "progenitor", "target": "fates", "moves": "set", "max_perturb": 1, "n_decisions": 1, "bonus": 0.5},
    **{"reward": 3.0, "cost": 0.5, "n_updates": 1},
}


def env(change: Any, name: Any) -> dict[str, Any]:
    return {"name": name, **{key: change(value, p.trained, given) for key, (value, given) in ENV.items()}}


def gattaca(change: Any, name: Any) -> dict[str, Any]:
    short, shared = ("env.n_decisions=2",), ("between", "duration")
    return {
        **{"name": name, "time_limit": change("terminated", p.trained, short)},
        **{key: change(value, p.trained) for key, value in GATTACA.items()},
        **{key: change(ENV[key][0], p.trained, ENV[key][1]) for key in shared},
    }


def protocol(change: Any, name: Any) -> dict[str, Any]:
    values = {"simulations": 3, "episodes": 70, "exact_genes": 0, "seed": 1}
    return {
        **{"name": name, **{key: change(value, p.fates) for key, value in values.items()}},
        "max_steps": change(3, p.fates, refused="an episode has not ended after 3 steps"),
    }


def base(*more: str) -> tuple[str, ...]:
    return (
        *("env=fate", "agent=ppo", "schedule.total=128", "agent.rollout_steps=64", "agent.n_envs=8"),
        *("agent.minibatch=16", "policy.hidden=[8]", "curve_points=0", "protocol.episodes=8"),
        *("protocol.simulations=1", "checkpoint_seconds=0", "device=cpu", "progress=quiet", "threads=1", *more),
    )
