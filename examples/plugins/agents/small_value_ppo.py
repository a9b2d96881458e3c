from perturbrl.plugins import PPO, PPOConfig, agent


@agent("small_value_ppo", PPOConfig)
class SmallValuePPO(PPO):
    """PPO with a penalty on large values."""

    def loss(self, heads, batch):
        loss, log = super().loss(heads, batch)
        return loss + 0.01 * heads.value.square().mean(1), log
