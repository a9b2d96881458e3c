"""Stable-Baselines3 PPO and A2C, and sb3-contrib TRPO, with the settings of the released study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from harness import Settings
from stable_baselines3.common.vec_env import VecEnv

from perturbrl.envs.gym import CellVectorEnv


class BatchedCells(VecEnv):
    """Our vector environment as Stable-Baselines3 wants one."""

    def __init__(self, cells: CellVectorEnv) -> None:
        self.cells = cells
        super().__init__(cells.num_envs, cells.single_observation_space, cells.single_action_space)

    def reset(self) -> Any:
        return self.cells.reset()[0]

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        obs, reward, terminated, truncated, extra = self.cells.step(self.actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(terminated | truncated):
            infos[i] = {"terminal_observation": extra["final_obs"][i], "TimeLimit.truncated": bool(truncated[i])}
        return obs, reward.astype(np.float32), terminated | truncated, infos

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def build(algorithm: str, s: Settings, env: gymnasium.Env[Any, Any] | VecEnv) -> Callable[[], int]:
    n_envs = env.num_envs if isinstance(env, VecEnv) else 1
    common: dict[str, Any] = {
        "learning_rate": s.lr,
        "n_steps": s.rollout // n_envs,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "policy_kwargs": {
            "net_arch": {"pi": list(s.hidden), "vf": list(s.hidden)},
            "activation_fn": torch.nn.Tanh,
        },
        "seed": 0,
        "device": "cpu",
    }
    model: Any
    if algorithm == "ppo":
        from stable_baselines3 import PPO

        model = PPO("MlpPolicy", env, batch_size=s.minibatch, n_epochs=s.epochs, clip_range=0.2, **common)
    elif algorithm == "a2c":
        from stable_baselines3 import A2C

        model = A2C("MlpPolicy", env, **common | {"n_steps": 5, "gae_lambda": 1.0})
    else:
        from sb3_contrib import TRPO

        model = TRPO(
            "MlpPolicy",
            env,
            batch_size=s.critic_minibatch,
            n_critic_updates=s.epochs,
            cg_max_steps=s.cg_iterations,
            cg_damping=0.01,
            sub_sampling_factor=round(1 / s.fisher_fraction),  # thins the gradient and the line search too
            target_kl=0.01,
            line_search_shrinking_factor=0.8,
            **common,
        )

    def iterate() -> int:
        before = model.num_timesteps
        model.learn(s.rollout, reset_num_timesteps=False)
        return int(model.num_timesteps - before)  # whole rollouts, rounded up

    return iterate


def build_sac(s: Settings, steps: int, env: gymnasium.Env[Any, Any] | VecEnv) -> Callable[[], int]:
    """Soft actor-critic with the defaults of Stable-Baselines3, but for learning rate and networks."""
    from stable_baselines3 import SAC

    net = {"net_arch": list(s.hidden)}
    model = SAC("MlpPolicy", env, s.lr, buffer_size=100_000, policy_kwargs=net, seed=0, device="cpu")

    def iterate() -> int:
        model.learn(steps, reset_num_timesteps=False)
        return steps

    return iterate
