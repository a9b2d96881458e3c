from dataclasses import dataclass

from perturbrl.plugins import LossRecipe, agent, normalise


@dataclass(frozen=True)
class Config:
    name: str
    total_steps: int
    rollout_steps: int
    n_envs: int
    lr: float
    gamma: float


@agent("actor_critic", Config)
class ActorCritic(LossRecipe):
    """One step up the policy gradient and down the value loss on each rollout."""

    def loss(self, heads, batch):  # heads: log_prob, value [S, M], entropy [S]; batch: advantage, ret [S, M], ...
        policy = -(heads.log_prob * normalise(batch.advantage)).mean(1)
        value = (heads.value - batch.ret).square().mean(1)
        return policy + value
