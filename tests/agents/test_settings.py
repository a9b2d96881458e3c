"""What every agent can be told: its YAML file and its schema agree, and sizes that do not fit are refused by name."""

from __future__ import annotations

import dataclasses

import pytest

from perturbrl import registry
from perturbrl.agents.settings.base import OnPolicyConfig
from perturbrl.errors import UserError

from .helpers import agent_config, tiny

OF_STAGES = ("staged", "trpo_from_ppo", "trpo_ppo", "ppo_kl")  # their settings are those of their stages
ONE_STAGE = [name for name in registry.agents if name not in OF_STAGES]


@pytest.mark.parametrize("name", ONE_STAGE)
def test_the_file_and_the_schema_have_the_same_keys(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(registry.agents[name].schema)}
    assert set(registry.agents.defaults(name)) - {"defaults"} == fields


@pytest.mark.parametrize("name", [n for n in ONE_STAGE if issubclass(registry.agents[n].schema, OnPolicyConfig)])
def test_rollouts_that_do_not_divide_are_refused_by_name(name: str) -> None:
    assert agent_config(name, **tiny(name)).rollout_steps % 4 == 0
    with pytest.raises(UserError, match=r"agent\.rollout_steps: \d+ is not a multiple of n_envs = 7") as error:
        agent_config(name, **tiny(name, n_envs=7))
    assert "\n" not in str(error.value)
    if hasattr(agent_config(name, **tiny(name)), "minibatch"):
        with pytest.raises(UserError, match=r"agent\.minibatch: 13 does not divide rollout_steps"):
            agent_config(name, **tiny(name, minibatch=13))
