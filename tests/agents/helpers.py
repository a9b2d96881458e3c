"""What the tests of the agents share: configs, a table of Gaussian clusters, small environments, a naive network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf
from torch import Tensor

import perturbrl.agents
import perturbrl.envs  # noqa: F401  (registers the tasks)
from perturbrl import paths, registry
from perturbrl.agents.common.learner import Learner
from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.model.actor_critic import ActorCritic, PolicyConfig
from perturbrl.agents.model.networks import Branches, Layer, Mlp, Sequential
from perturbrl.config import bind
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace, BatchedEnv, Step
from perturbrl.rng import Streams

Settings = dict[str, Any]
STAGED = {"trpo_ppo": ("trpo", "ppo"), "trpo_from_ppo": ("ppo", "trpo")}  # of the others an override names the stages


def agent_config(name: str, **overrides: Any) -> Any:
    """Bind conf/agent/<name>.yaml with tiny budgets; a dotted key (``{"ppo.lr": ...}``) reaches into a stage."""
    tree = registry.agents.defaults(name)
    if name == "trpo_ppo":
        tree = OmegaConf.merge({"trpo": _group("trpo"), "ppo": _group("ppo")}, tree)
    root = OmegaConf.create({"agent": tree, "schedule": {"mode": "stages", "total": 256, "trpo": 128, "ppo": 128}})
    for key, value in overrides.items():
        if key.endswith("optimizer") and isinstance(value, str):
            value = OmegaConf.load(paths.conf_dir() / "agent" / "optimizer" / f"{value}.yaml")
            OmegaConf.update(root.agent, key, value, merge=False, force_add=True)
        else:
            OmegaConf.update(root.agent, key, value, force_add=True)
    return registry.agents.bind(root.agent)


def _group(name: str) -> Any:
    return registry.agents.defaults(name)


def policy_config(**overrides: Any) -> PolicyConfig:
    tree = OmegaConf.merge(OmegaConf.load(paths.conf_dir() / "policy" / "mlp.yaml"), {"hidden": [6, 5]}, overrides)
    return bind(PolicyConfig, tree, "policy")


def tiny(name: str, **overrides: Any) -> Settings:
    """Overrides that make an agent of 4 cells and 64-step rollouts."""
    common: Settings = {"rollout_steps": 64, "n_envs": 4}
    stages = STAGED.get(name, ()) or tuple(text.partition(":")[0] for text in overrides.get("stages", ()))
    own: dict[str, Settings] = {
        "ppo": {"minibatch": 16, "epochs": 3, "lr": 3e-3},
        "trpo": {"minibatch": 16, "critic_epochs": 2, "lr": 3e-3, "cg_iterations": 6},
        "ppo_penalty": {"minibatch": 16, "epochs": 3, "lr": 3e-3},
        "ppo_released": {"minibatch": 16, "lr": 3e-3},
    }
    own["lora"] = own["ppo"] | {"adapter_lr": 1e-2, "convex_share": 0.5, "nonconvex_share": 0.25}
    own |= dict.fromkeys(("copg", "fop", "fr_ppo", "trgppo"), own["ppo"]) | {"npg": own["trpo"]}
    if stages or name == "staged":
        return {f"{s}.{key}": v for s in stages for key, v in (common | own.get(s, {})).items()} | overrides
    one_stage: dict[str, Settings] = {
        "a2c": {"rollout_steps": 20, "lr": 3e-3},
        "grpo": {"minibatch": 16, "epochs": 3, "lr": 3e-3, "group": 2},
        "random_search": {},
        "rloo": {"minibatch": 16, "lr": 3e-3, "group": 2},
    }
    return common | (own | one_stage)[name] | overrides


def cell_table(n_cells: int = 60, n_features: int = 8, n_clusters: int = 3, seed: int = 0) -> CellTable:
    """Gaussian clusters along pseudotime, two modalities, standardised."""
    rng = np.random.default_rng(seed)
    time = rng.random(n_cells)
    centres = rng.standard_normal((n_clusters, n_features))
    x = centres[(time * n_clusters).astype(int)] + 0.5 * rng.standard_normal((n_cells, n_features))
    x = (x - x.mean(0)) / x.std(0)
    rows = rng.permutation(n_cells)
    half = max(1, n_features // 2)
    slices = {"rna": slice(0, half)} | ({"atac": slice(half, n_features)} if n_features > half else {})
    return CellTable(
        x=x.astype(np.float32),
        features=tuple(f"g{i}" for i in range(n_features)),
        slices=slices,
        pseudotime=time,
        train=np.sort(rows[: n_cells * 4 // 5]),
        test=np.sort(rows[n_cells * 4 // 5 :]),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n_cells)]),
        source="clusters",
        checksum="",
    )


def env_config(name: str, **overrides: Any) -> Any:
    return registry.envs.bind(OmegaConf.merge(OmegaConf.load(paths.conf_dir() / "env" / f"{name}.yaml"), overrides))


def make_env(name: str, n_runs: int, n_envs: int, table: CellTable, **overrides: Any) -> BatchedEnv:
    configs = [env_config(name, **overrides)] * n_runs
    env: BatchedEnv = registry.envs[name].build(configs, table, table.train, n_envs, "cpu")
    return env


def make_learner(
    name: str,
    seeds: Sequence[int],
    env: str = "paper",
    agent: Sequence[Settings] | Settings | None = None,
    policy: Settings | None = None,
    horizon: int = 12,
    table: CellTable | None = None,
    **env_overrides: Any,
) -> Learner:
    """Build a tiny learner of ``len(seeds)`` runs; ``agent`` is one set of overrides, or one for each run."""
    table = cell_table() if table is None else table
    each = agent if isinstance(agent, Sequence) else [agent or {}] * len(seeds)
    configs = [agent_config(name, **tiny(name, **overrides)) for overrides in each]
    batched = make_env(env, len(seeds), configs[0].n_envs, table, horizon=horizon, **env_overrides)
    policies = [policy_config(**(policy or {}))] * len(seeds)
    learner: Learner = registry.agents[name].build(configs, policies, batched, table.slices, Streams(seeds))
    return learner


class FakeEnv:
    """An environment that counts up and remembers what it was told: obs = [run, cell, step of the episode].

    The reward is the number of the step; an episode lasts ``horizon`` steps and ends as ``limit`` says.
    """

    obs_dim, n_uniforms = 3, 1

    def __init__(self, n_runs: int, n_envs: int, horizon: int, limit: str, actions: ActionSpace | None = None) -> None:
        self.n_runs, self.n_envs, self.horizon, self.limit = n_runs, n_envs, horizon, limit
        self.can_truncate = limit == "truncated"
        self.action_space = actions or ActionSpace("box", 2)
        self.clock = 0
        self.actions: list[Tensor] = []

    def _obs(self, clock: int) -> Tensor:
        run = torch.arange(self.n_runs).view(-1, 1).expand(-1, self.n_envs)
        cell = torch.arange(self.n_envs).expand(self.n_runs, -1)
        return torch.stack([run, cell, torch.full_like(run, clock)], -1).float()

    def reset(self, u: Tensor) -> Tensor:
        self.clock = 0
        return self._obs(0)

    def step(self, action: Tensor, u: Tensor) -> Step:
        self.actions.append(action.clone())
        self.clock += 1
        over = self.clock == self.horizon
        final = self._obs(self.clock)
        reward = torch.full((self.n_runs, self.n_envs), float(self.clock))
        if over:
            self.clock = 0
        flags = [
            torch.full_like(reward, over and self.limit == kind, dtype=torch.bool)
            for kind in ("terminated", "truncated")
        ]
        return Step(self._obs(self.clock), reward, flags[0], flags[1], final)

    def state(self) -> dict[str, Tensor]:
        return {"clock": torch.tensor([self.clock] * self.n_runs)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.clock = int(state["clock"][0])


def naive(layer: Layer, theta: Tensor, x: Tensor) -> Tensor:
    """Run one network of one run: ``theta`` [n], ``x`` [B, I]; plain differentiable torch, one layer at a time."""
    match layer:
        case Mlp():
            at = layer.chain.start
            for dense in layer.layers:
                split = at + dense.n_in * dense.n_out
                z = x @ theta[at:split].reshape(dense.n_in, dense.n_out) + theta[split : split + dense.n_out]
                x = {"identity": z, "tanh": torch.tanh(z), "relu": torch.relu(z)}[dense.activation]
                at = split + dense.n_out
            return x
        case Sequential():
            for inner in layer.layers:
                x = naive(inner, theta, x)
            return x
        case Branches():
            parts = zip(layer.slices, layer.networks, strict=True)
            return torch.cat([naive(network, theta, x[:, s]) for s, network in parts], -1)
    raise TypeError(layer)


def torch_distribution(model: ActorCritic, theta: Tensor, obs: Tensor) -> torch.distributions.Distribution:
    """Return pi(.|s) of one run as torch's own distribution: ``theta`` [n], ``obs`` [B, G]."""
    outputs = naive(model.policy_net, theta, obs)
    if model.actions.kind == "discrete":
        return torch.distributions.Categorical(logits=outputs)
    start = model.policy_net.place(0)
    normal = torch.distributions.Normal(outputs, theta[start : start + model.actions.size].exp().expand_as(outputs))
    return torch.distributions.Independent(normal, 1)


def make_model(
    kind: str, n_runs: int = 2, n_features: int = 4, size: int = 3, seed: int = 0, **policy: Any
) -> ActorCritic:
    """Build a tiny float64 model with random parameters everywhere."""
    config = policy_config(**({"hidden": [5, 4]} | policy))
    slices = {"a": slice(0, n_features // 2), "b": slice(n_features // 2, n_features)}
    model = ActorCritic(config, n_features, slices, ActionSpace(kind, size), n_runs)
    generator = torch.Generator().manual_seed(seed)
    model.theta = 0.5 * torch.randn(model.theta.shape, generator=generator, dtype=torch.float64)
    model.grad = torch.zeros_like(model.theta)
    return model


def make_batch(model: ActorCritic, n: int, n_features: int = 4, seed: int = 0, drift: float = 0.0) -> Rollout:
    """Draw a batch from the model's policy; ``drift`` is the sd of the noise added to the old log probabilities."""
    generator = torch.Generator().manual_seed(seed)
    runs = model.theta.shape[0]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=model.theta.dtype)

    obs = normal(runs, n, n_features)
    dist, _ = model.policy(obs)
    if model.actions.kind == "discrete":
        action = dist.sample(torch.rand(runs, n, 1, generator=generator, dtype=model.theta.dtype))
    else:
        action = dist.sample(normal(runs, n, model.actions.size))
    log_prob = dist.log_prob(action)[0] + drift * normal(runs, n)
    value = model.value(obs)[0]
    return Rollout(obs, action, log_prob, value, normal(runs, n) + 0.3, normal(runs, n))
