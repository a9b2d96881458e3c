from dataclasses import dataclass

from perturbrl.plugins import Adam, Recipe, agent, gradient


@dataclass(frozen=True)
class Config:
    name: str
    total_steps: int
    rollout_steps: int
    n_envs: int
    lr: float
    gamma: float


@agent("reinforce", Config)
class Reinforce(Recipe):
    """One step of Adam up the policy gradient, with returns in place of advantages."""

    def __init__(self, configs, model, streams):
        super().__init__(configs, model, streams)
        self.adam = Adam(model.theta, [config.lr for config in configs])
        self.stateful = {"": self.adam}  # checkpoints save its tensors

    def update(self, batch, iteration):
        heads = self.model.heads(batch.obs, batch.action)
        loss = -(heads.log_prob * batch.ret).mean(1)
        gradient(loss, heads)  # writes self.model.grad [S, n]
        self.adam.step(self.model.grad)
        return {"loss": loss.detach()}  # logged, [S] each
