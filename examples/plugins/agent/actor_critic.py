from dataclasses import dataclass

import torch

from perturbrl.agents.learner import Learner, Stage, per_run
from perturbrl.agents.losses import normalise, value_loss_score
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.optim import Adam
from perturbrl.registry import agents


@dataclass(frozen=True)
class Config:
    name: str
    total_steps: int
    rollout_steps: int
    n_envs: int
    lr: float
    gamma: float


class Update:
    """One step up the policy gradient and down the value loss on each rollout, for all S runs at once."""

    def __init__(self, configs, model):
        self.model, self.adam = model, Adam(model.theta, [c.lr for c in configs])
        self.state, self.load_state = self.adam.state, self.adam.load_state

    def run(self, batch, iteration):
        grad = torch.zeros_like(self.model.theta)
        dist, cache = self.model.policy(batch.obs)
        score = normalise(batch.advantage) / -batch.advantage.shape[1]
        self.model.policy_vjp(cache, *dist.log_prob_vjp(dist.log_prob(batch.action)[1], score), grad)
        value, cache = self.model.value(batch.obs)
        self.model.value_vjp(cache, value_loss_score(value, batch.ret), grad)
        self.adam.step(grad)
        return {"entropy": dist.entropy()}


@agents.register("actor_critic", Config)
def build(configs, policies, env, slices, streams):
    model, first = ActorCritic.for_env(policies, env, slices, streams), configs[0]
    gamma = per_run(configs, "gamma", streams.device)
    stage = Stage("actor_critic", first.total_steps, gamma, torch.ones_like(gamma), Update(configs, model))
    return Learner(model, env, streams, first.rollout_steps, [stage])
