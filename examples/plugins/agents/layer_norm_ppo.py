from torch import nn

from perturbrl.plugins import PPO, ModuleActorCritic, PPOConfig, agent


def network(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, n_out))


@agent("layer_norm_ppo", PPOConfig)
class LayerNormPPO(PPO):
    """PPO with layer normalisation in both networks."""

    @classmethod
    def make_model(cls, policies, env, slices, streams):
        return ModuleActorCritic.for_env(network, network, env, streams)
