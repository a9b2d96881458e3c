from dataclasses import dataclass

import torch

from perturbrl.plugins import Recipe, TorchOptimiser, agent


@dataclass(frozen=True)
class Config:
    name: str
    total_steps: int
    rollout_steps: int
    n_envs: int
    lr: float
    gamma: float


@agent("torch_optimiser", Config)
class WithTorchOptimiser(Recipe):
    """An actor and a critic that RMSprop of torch improves by autograd through both networks."""

    def __init__(self, configs, model, streams):
        super().__init__(configs, model, streams)
        self.optimiser = torch.optim.RMSprop([model.theta.requires_grad_()], lr=self.c.lr)  # theta is [S, n]
        self.stateful = {"": TorchOptimiser(self.optimiser)}

    def update(self, batch, iteration):
        policy, _ = self.model.policy(batch.obs)  # a distribution over actions in M states
        value, _ = self.model.value(batch.obs)  # [S, M]
        log_prob, _ = policy.log_prob(batch.action)
        loss = (value - batch.ret).square().mean(1) - (log_prob * batch.advantage).mean(1)
        self.optimiser.zero_grad()
        loss.sum().backward()  # runs are independent: the gradient of the sum is that of each
        self.optimiser.step()
        return {"loss": loss.detach()}
