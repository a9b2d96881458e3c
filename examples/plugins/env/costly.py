from dataclasses import dataclass, replace

import torch

from perturbrl.plugins import PaperEnv, PaperEnvConfig, envs


@dataclass(frozen=True)
class CostlyConfig(PaperEnvConfig):
    cost: float


class CostlyEnv(PaperEnv):
    def step(self, action, u):
        step = super().step(action, u)
        return replace(step, reward=step.reward - self.cost * action.clamp(-1, 1).abs().mean(-1))


@envs.register("costly", CostlyConfig)
def build(configs, table, cells, n_envs, device):
    env = CostlyEnv(configs, table, cells, n_envs, device)
    env.cost = torch.tensor([[c.cost] for c in configs], device=device)  # a row for each run trained together
    return env
