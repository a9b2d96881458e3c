import pytest

from perturbrl.plugins import check_agent


@pytest.mark.parametrize("name", ["small_value_ppo", "reinforce", "torch_optimiser", "layer_norm_ppo"])
def test_an_agent_is_sound(name):
    check_agent(name)  # more words are overrides: check_agent(name, "agent.rollout_steps=256")
