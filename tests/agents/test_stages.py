"""Stages compose: TRPO -> PPO is one case of them, and what the next stage takes over can be chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from perturbrl import registry
from perturbrl.agents.common.build import agent
from perturbrl.agents.common.recipe import LossRecipe
from perturbrl.agents.model.modules import ModuleActorCritic
from perturbrl.agents.ppo import PPO
from perturbrl.agents.settings.ppo import PPOConfig
from perturbrl.agents.settings.staged import budgets
from perturbrl.bounds import shared_settings
from perturbrl.errors import UserError

from .helpers import agent_config, make_learner, tiny
from .test_population import check_alone, train

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = ["policy", "value", "log_std", "moments"]
THREE = {"stages": ["trpo:64", "ppo:64", "trpo:64"], "handover": ALL}


def staged(*stages: str, **more: Any) -> Any:
    return make_learner("staged", [1, 2], agent={"stages": list(stages)} | more)


# --- the two-stage case


@pytest.mark.parametrize(
    ("handover", "names"),
    [("parameters", ["policy", "value", "log_std"]), ("parameters_and_moments", ALL)],
)
def test_trpo_ppo_is_the_case_of_two_stages(handover: str, names: list[str]) -> None:
    settings = {"trpo.target_kl": 0.05, "ppo.clip": 0.1}
    old = make_learner("trpo_ppo", [3, 1], agent=settings | {"handover": handover})
    new = make_learner("staged", [3, 1], agent=settings | {"stages": ["trpo:128", "ppo:128"], "handover": names})
    for log, other in zip(train(old, stop=4), train(new, stop=4), strict=True):
        assert log.keys() == other.keys()
    assert old.n_iterations == new.n_iterations == 4
    state, other = old.state(), new.state()
    assert list(state) == list(other)
    for name, tensor in state.items():
        assert torch.equal(tensor.nan_to_num(), other[name].nan_to_num()), name


def test_trpo_from_ppo_trains_the_other_way_round() -> None:
    learner = make_learner("trpo_from_ppo", [1, 2])
    assert [learner.stage_of(i).name for i in range(learner.n_iterations)] == ["ppo", "ppo", "trpo", "trpo"]
    logs = train(learner, stop=4)
    assert "clip_fraction" in logs[1] and "accepted" in logs[2]


# --- what is written, and what is refused


@pytest.mark.parametrize(
    ("text", "steps"),
    [("trpo:10000", 10_000), ("trpo:10_000", 10_000), ("trpo:10k", 10_000), ("trpo:1M", 10**6), ("trpo:1.5k", 1500)],
)
def test_steps_are_written_as_people_write_them(text: str, steps: int) -> None:
    assert budgets([text]) == [("trpo", steps)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stages": []}, r"agent\.stages: must not be empty; write \[trpo:10k,ppo:40k\]"),
        ({"stages": "trpo:1k"}, r"agent\.stages: must be a list of NAME:STEPS, such as .*, got 'trpo:1k'"),
        ({"stages": ["trpo"]}, r"agent\.stages\[0\]: must be NAME:STEPS, such as .*, got 'trpo'"),
        ({"stages": ["ppo:1k", "trpo:-5"]}, r"agent\.stages\[1\]: must be NAME:STEPS"),
        ({"stages": ["ppo:0"]}, r"agent\.stages\[0\]: 'ppo:0' is no whole number of steps from 1 up"),
        ({"stages": ["ppo:1.5"]}, r"agent\.stages\[0\]: 'ppo:1.5' is no whole number"),
        ({"stages": ["pppo:1k"]}, r"agent\.stages\[0\]: 'pppo' is not known"),
        ({"stages": ["trpo_ppo:1k"]}, r"agent\.stages\[0\]: trpo_ppo cannot be a stage: stages are agents of one"),
        ({"stages": ["ppo:1k"], "trpo.lr": 1e-3}, r"agent\.trpo: agent\.stages has no stage of that name; .* ppo$"),
        (
            {"stages": ["ppo:1k"], "ppo.total_steps": 5},
            r"agent\.ppo\.total_steps: is 5 and must be 1000: ",
        ),
        ({"stages": ["ppo:1k"], "ppo.name": "x"}, r"agent\.ppo\.name: is x and must be ppo"),
        (
            {"stages": ["ppo:1k"], "ppo.clone_steps": 64},
            r"agent\.ppo\.clone_steps: is 64 and must be 0: set agent\.clone",
        ),
        ({"stages": ["ppo:1k"], "ppo.clipp": 0.1}, r"agent\.ppo\.clipp: unknown key"),
        ({"stages": ["ppo:1k"], "ppo.clip": -1.0}, r"agent\.ppo\.clip: must be"),
        ({"stages": ["ppo:1k"], "handover": ["critic"]}, r"agent\.handover\[0\]: 'critic' is not known"),
        (
            {"stages": ["trpo:1k", "ppo:1k"], "ppo.rollout_steps": 128},
            r"agent\.ppo\.rollout_steps: is 128 but agent\.trpo\.rollout_steps is 64; all stages need the same",
        ),
        ({"stages": ["trpo:1k", "ppo:1k"], "ppo.n_envs": 8}, r"agent\.ppo\.n_envs: is 8 but agent\.trpo\.n_envs is 4"),
    ],
)
def test_stages_that_cannot_be_are_refused_in_one_line(overrides: dict, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        agent_config("staged", **tiny("staged", **overrides))


def test_a_stage_twice_has_one_set_of_settings_and_a_name_of_its_own() -> None:
    learner = staged("trpo:64", "ppo:64", "trpo:128", **{"trpo.target_kl": 0.05})
    names = [learner.stage_of(i).name for i in range(learner.n_iterations)]
    assert names == ["trpo", "ppo", "trpo_2", "trpo_2"]
    widths = [stage.recipe.c.target_kl for stage in learner.stages if stage.name != "ppo"]
    assert len(widths) == 2 and all((width == 0.05).all() for width in widths)
    tensors = {name.partition("/")[0] for name in learner.state()}
    assert {"trpo", "ppo", "trpo_2"} <= tensors


# --- handover


def at_the_boundary(handover: list[str], *stages: str) -> tuple[Any, Tensor, Tensor]:
    """Train the first of two stages and begin the second: learner, parameters at the start and at the end of it."""
    learner = staged(*stages, handover=handover)
    start = learner.model.theta.clone()
    train(learner, stop=2)
    reached = learner.model.theta.clone()
    learner.stages[1].begin()
    return learner, start, reached


@pytest.mark.parametrize("left_out", ["policy", "value", "log_std"])
def test_parameters_that_are_not_handed_over_start_anew(left_out: str) -> None:
    kept = [name for name in ALL if name not in (left_out, "moments")]
    learner, start, reached = at_the_boundary(kept, "ppo:128", "trpo:64")
    model, theta = learner.model, learner.model.theta
    log_std = model.log_std_columns
    columns = {"policy": slice(0, log_std.start), "log_std": log_std, "value": slice(model.policy_size, None)}
    for name, where in columns.items():
        assert not torch.equal(start[:, where], reached[:, where]), name  # or the rest would show nothing
        expected = start if name == left_out else reached
        assert torch.equal(theta[:, where], expected[:, where]), name


def test_with_nothing_handed_over_the_last_stage_is_alone() -> None:
    learner, start, _ = at_the_boundary([], "ppo:128", "trpo:64")
    assert torch.equal(learner.model.theta, start)
    assert all((x == 0).all() for x in learner.stages[1].recipe.state().values())


@pytest.mark.parametrize(
    ("stages", "networks"),
    [
        (("ppo:128", "ppo:64"), {"policy", "value"}),
        (("ppo:128", "trpo:64"), {"value"}),
        (("trpo:128", "ppo:64"), {"value"}),
        (("trpo:128", "ppo_penalty:64"), {"value"}),
        (("ppo:128", "ppo_released:64"), {"policy", "value"}),
    ],
)
@pytest.mark.parametrize("handed", [True, False])
def test_moments_are_those_of_the_networks_that_both_stages_train_by_an_optimiser(
    stages: tuple[str, str], networks: set[str], handed: bool
) -> None:
    learner, _, reached = at_the_boundary(ALL if handed else ALL[:3], *stages)
    first, second = (stage.recipe.moments for stage in learner.stages)
    assert torch.equal(learner.model.theta, reached)
    for network, optimiser in second.items():
        for name, tensor in optimiser.state().items():
            taken = handed and network in networks
            expected = first[network].state()[name] if taken else torch.zeros_like(tensor)
            assert torch.equal(tensor, expected), (network, name)
            assert not taken or tensor.abs().sum() > 0


def test_moments_that_a_stage_does_not_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PPO, "moments", {})
    with pytest.raises(UserError, match=r"^agent\.handover: stages trpo and ppo have no moments in common"):
        staged("trpo:64", "ppo:64", handover=ALL)
    staged("trpo:64", "ppo:64", handover=ALL[:3])


def test_moments_of_optimisers_of_two_kinds_are_refused() -> None:
    other = {"ppo.optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": False}}
    with pytest.raises(
        UserError, match=r"^agent\.handover: stages trpo and ppo train the value network by optimisers of"
    ):
        staged("trpo:64", "ppo:64", handover=ALL, **other)
    train(staged("trpo:64", "ppo:64", **other), stop=2)


# --- populations, and going on


@pytest.mark.parametrize("k", [2])
def test_a_run_of_many_stages_is_the_run_alone(k: int) -> None:
    seeds = (3, 1, 4)
    check_alone(make_learner("staged", seeds, agent=THREE), make_learner("staged", seeds[k : k + 1], agent=THREE), k)


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("handover", [ALL, ["value"]])
def test_it_goes_on_bit_for_bit_at_every_boundary(cut: int, handover: list[str]) -> None:
    settings = THREE | {"handover": handover}
    whole, first, resumed = (make_learner("staged", [3, 1], agent=settings) for _ in range(3))
    train(whole)
    train(first, stop=cut)
    resumed.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    train(resumed, start=cut)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor.nan_to_num(), resumed.state()[name].nan_to_num()), name


def test_numbers_of_a_stage_may_differ_within_a_population() -> None:
    settings = [{"stages": ["trpo:64", "ppo:64"], "ppo.lr": lr} for lr in (1e-3, 1e-2)]
    together, alone = (make_learner("staged", seeds, agent=settings[-len(seeds) :]) for seeds in ([5, 6], [6]))
    for learner in (together, alone):
        train(learner, stop=2)
    assert torch.equal(together.model.theta[1], alone.model.theta[0])
    node = {"name": "staged", "stages": ["trpo:64", "ppo:64"]}
    whole = registry.agents.completed(node | {"handover": [], "clone_steps": 0, "clone_lr": 0.1})
    shared = shared_settings(registry.agents.schema(whole), whole, "perturbrl")
    assert "lr" not in shared["ppo"] and "epochs" in shared["ppo"]


# --- stages of a plugin


@dataclass(frozen=True)
class Config(PPOConfig):
    """Of an agent that a plugin brings."""


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent of another package."""
    monkeypatch.setattr(registry.agents, "_entries", dict(registry.agents._entries))
    plain = registry.agents.defaults
    monkeypatch.setattr(registry.agents, "defaults", lambda name: plain({"theirs": "ppo"}.get(name, name)))

    class Theirs(LossRecipe[Config]):
        """Any loss."""

        def loss(self, heads, batch):
            return -(heads.log_prob * batch.advantage).mean(1) + (heads.value - batch.ret).square().mean(1)

    Theirs.__module__ = "another_package"
    agent("theirs", Config)(Theirs)
    yield


def test_a_plugins_agent_can_be_a_stage(plugin: None) -> None:
    config = {"rollout_steps": 64, "n_envs": 4, "minibatch": 16, "name": "theirs"}
    configs = [agent_config("staged", stages=["theirs:64", "trpo:64"], theirs=config, trpo=tiny("trpo"))]
    assert type(configs[0].theirs) is Config
    node = {"name": "staged", "stages": ["theirs:64"], "handover": [], "clone_steps": 0, "clone_lr": 0.1}
    whole = registry.agents.completed(node | {"theirs": config})
    shared = shared_settings(registry.agents.schema(whole), whole, "perturbrl")
    assert "lr" in shared["theirs"]  # a plugin may read the settings of the first run only


def test_networks_of_two_stages_own_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(cls: Any, policies: Any, env: Any, slices: Any, streams: Any) -> Any:
        def make(n_in: int, n_out: int) -> torch.nn.Module:
            return torch.nn.Linear(n_in, n_out)

        return ModuleActorCritic.for_env(make, make, env, streams)

    ppo, trpo = (registry.agents[name].build.recipe for name in ("ppo", "trpo"))
    monkeypatch.setattr(ppo, "make_model", classmethod(other))
    learner = staged("trpo:64", "ppo:64")
    assert isinstance(learner.model, ModuleActorCritic)
    train(learner, stop=2)
    monkeypatch.setattr(trpo, "make_model", classmethod(lambda *args: other(*args)))
    with pytest.raises(UserError, match=r"^agent\.stages: trpo and ppo have networks of their own"):
        staged("trpo:64", "ppo:64")
