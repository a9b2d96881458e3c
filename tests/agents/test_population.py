from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perturbrl.agents.common.learner import Learner

from .helpers import cell_table, make_learner

SEEDS = (3, 1, 4)
AGENTS = {
    "ppo": ("ppo", {}),
    "ppo_early_stop": ("ppo", {"target_kl": 0.005}),
    "ppo_entropy": ("ppo", {"ent_coef": 0.01}),
    **{name: (name, {}) for name in ("copg", "fr_ppo", "npg", "trgppo")},
    "fop": ("fop", {"hyper_lr": 0.1}),
    "fop_early_stop": ("fop", {"hyper_lr": 0.1, "target_kl": 0.005}),
    "trpo": ("trpo", {}),
    "trpo_summed": ("trpo", {"kl": "summed"}),
    "trpo_thinned": ("trpo", {"fisher_fraction": 0.3}),
    "stages": ("trpo_ppo", {}),
    "stages_moments": ("trpo_ppo", {"handover": "parameters_and_moments"}),
    "interleaved": ("trpo_ppo", {"mode": "interleaved", "trpo.total_steps": 256, "ppo.total_steps": 256}),
}


def on_both(cases: list[tuple], quick: set[str]) -> list:
    """Each case on native kernels, and on torch's, which take five times as long: there only some are quick."""
    return [
        pytest.param(*case, twin, marks=[pytest.mark.slow] if twin == "torch" and case[0] not in quick else [])
        for case in cases
        for twin in ("native", "torch")
    ]


pytestmark = pytest.mark.usefixtures("one_thread")


def train(learner: Learner, start: int = 0, stop: int = 3) -> list[dict[str, Tensor]]:
    return [learner.iterate(i) for i in range(start, stop)]


def check_alone(together: Learner, alone: Learner, k: int) -> None:
    logs, own_logs = train(together), train(alone)
    assert torch.equal(together.model.theta[k], alone.model.theta[0])
    for log, own in zip(logs, own_logs, strict=True):
        assert log.keys() == own.keys()
        for key in log:
            torch.testing.assert_close(log[key][k], own[key][0], equal_nan=True, msg=key)
    kept, own_kept = together.state(), alone.state()
    for name in kept:
        if name != "collector/env/t":  # the one clock of all cells
            assert torch.equal(kept[name][k].nan_to_num(), own_kept[name][0].nan_to_num()), name


@pytest.mark.parametrize(
    ("case", "k", "twin"),
    on_both([(case, 2) for case in AGENTS] + [("stages", 0), ("stages", 1)], {"ppo", "trpo"}),
    indirect=["twin"],
)
def test_run_k_of_a_population_is_run_k_alone(case: str, k: int, twin: str) -> None:
    name, agent = AGENTS[case]
    check_alone(make_learner(name, SEEDS, agent=agent), make_learner(name, SEEDS[k : k + 1], agent=agent), k)


@pytest.mark.parametrize("name", ["ppo", "trpo"])
@pytest.mark.parametrize(
    ("env", "policy", "features", "twin"),
    on_both(
        [
            ("paper_discrete", {}, 8),
            ("paper", {"net": "branches"}, 9),
            ("paper", {"hidden": [64, 64], "activation": "relu"}, 11),
            ("paper", {"hidden": [50, 20]}, 32),
            ("paper", {"hidden": [256, 256]}, 32),
            ("paper", {"hidden": [32]}, 1),
        ],
        {"paper_discrete"},
    ),
    indirect=["twin"],
)
def test_it_holds_for_every_kind_and_shape_of_network(name, env, policy, features, twin) -> None:
    settings = {"env": env, "policy": policy, "table": cell_table(n_features=features)}
    check_alone(make_learner(name, SEEDS, **settings), make_learner(name, SEEDS[1:2], **settings), 1)


@pytest.mark.parametrize(
    ("name", "agents"),
    [
        (
            "ppo",
            [
                {"lr": 1e-3, "clip": 0.2, "gamma": 0.99, "gae_lambda": 0.9, "vf_coef": 0.5},
                {"lr": 1e-2, "clip": 0.05, "gamma": 0.5, "ent_coef": 0.05, "max_grad_norm": 0.1},
                {"lr": 1e-4, "clip": 0.3, "gamma": 0.0, "gae_lambda": 0.0, "max_grad_norm": 10.0},
            ],
        ),
        (
            "trpo",
            [
                {"lr": 1e-3, "target_kl": 0.01, "gamma": 0.99},
                {"lr": 1e-2, "target_kl": 0.1, "damping": 0.3, "line_search_shrink": 0.5},
                {"lr": 1e-4, "target_kl": 0.001, "gamma": 0.2, "gae_lambda": 0.1},
            ],
        ),
    ],
)
@pytest.mark.parametrize("k", [0, 1, 2])
def test_numbers_that_differ_within_a_population_are_each_runs_own(name: str, agents: list, k: int) -> None:
    together, alone = (
        make_learner(name, SEEDS, agent=agents),
        make_learner(name, SEEDS[k : k + 1], agent=agents[k : k + 1]),
    )
    check_alone(together, alone, k)


def test_such_a_number_changes_the_run() -> None:
    # or the test above could pass with a setting that nothing reads
    for name, changes in {
        "ppo": {
            "lr": 1e-2,
            "clip": 0.01,
            "gamma": 0.5,
            "gae_lambda": 0.1,
            "vf_coef": 2.0,
            "ent_coef": 0.1,
            "max_grad_norm": 0.1,
        },
        "trpo": {"lr": 1e-2, "target_kl": 0.1, "gamma": 0.5, "gae_lambda": 0.1, "damping": 0.5},
    }.items():
        base = make_learner(name, [1])
        train(base, stop=2)
        for key, value in changes.items():
            changed = make_learner(name, [1], agent={key: value})
            train(changed, stop=2)
            assert not torch.equal(base.model.theta, changed.model.theta), (name, key)


def test_what_shapes_the_computation_must_be_the_same_in_a_population() -> None:
    for key, values in {"epochs": (2, 3), "minibatch": (16, 32), "target_kl": (0.1, None)}.items():
        with pytest.raises(AssertionError, match=key):
            make_learner("ppo", [1, 2], agent=[{key: v} for v in values])


@pytest.mark.parametrize(
    ("case", "cut", "twin"),
    on_both(
        [(case, 1) for case in AGENTS] + [("stages_moments", 2), ("stages_moments", 3)], {"ppo_early_stop", "trpo"}
    ),
    indirect=["twin"],
)
def test_a_learner_goes_on_bit_for_bit_from_its_state(case: str, cut: int, twin: str) -> None:
    name, agent = AGENTS[case]
    whole = make_learner(name, SEEDS, agent=agent)
    first = make_learner(name, SEEDS, agent=agent)
    logs = train(whole, stop=whole.n_iterations)
    train(first, stop=cut)
    kept = {key: tensor.clone() for key, tensor in first.state().items()}
    resumed = make_learner(name, SEEDS, agent=agent)
    resumed.load_state(kept)
    again = train(resumed, start=cut, stop=whole.n_iterations)
    assert torch.equal(whole.model.theta, resumed.model.theta)
    for log, own in zip(logs[cut:], again, strict=True):
        for key in log:
            torch.testing.assert_close(log[key], own[key], rtol=0, atol=0, equal_nan=True, msg=key)


@pytest.mark.parametrize("name", ["ppo", "trpo", "trpo_ppo"])
def test_a_seed_fixes_the_result_and_another_seed_changes_it(name: str) -> None:
    one, same, other = make_learner(name, [5]), make_learner(name, [5]), make_learner(name, [6])
    start = one.model.theta.clone()
    assert not torch.equal(start, other.model.theta)
    for learner in (one, same, other):
        train(learner)
    assert torch.equal(one.model.theta, same.model.theta)
    assert not torch.equal(one.model.theta, other.model.theta)
    assert not torch.equal(one.model.theta, start)


def test_the_same_seed_twice_in_a_population_gives_the_same_run_twice() -> None:
    learner = make_learner("trpo_ppo", [7, 7])
    train(learner)
    assert torch.equal(learner.model.theta[0], learner.model.theta[1])


def test_the_networks_start_as_stable_baselines_would() -> None:
    model = make_learner("ppo", [0], policy={"log_std": -0.5}).model
    weights = [weight[0] for weight, _ in model.policy_net.chain.views(model.theta)]
    for weight, gain in zip(weights, (2**0.5, 2**0.5, 0.01), strict=True):
        small = weight if weight.shape[0] <= weight.shape[1] else weight.T
        torch.testing.assert_close(small @ small.T, gain**2 * torch.eye(len(small)), rtol=1e-4, atol=1e-5)
    dist, _ = model.policy(torch.zeros(1, 2, 8))
    assert (dist.log_std == -0.5).all() and (dist.mean == 0).all()


def test_the_deterministic_action_is_the_mode_within_the_box() -> None:
    learner = make_learner("ppo", [0])
    learner.model.theta.mul_(100)
    obs = torch.randn(1, 20, 8, generator=torch.Generator().manual_seed(0))
    action = learner.model.act(obs)
    assert torch.equal(action, learner.model.policy(obs)[0].mean.clamp(-1, 1))
    assert (action.abs() == 1).any() and action.abs().max() == 1


def test_a_tensor_that_is_not_finite_is_named() -> None:
    model = make_learner("ppo", [0, 1]).model
    assert model.first_not_finite(0) is None
    model.theta[1, -1 - (model.theta.shape[1] - model.policy_size) // 2] = torch.inf
    assert model.first_not_finite(0) is None and model.first_not_finite(1) == "value network"
    model.theta[1, model.policy_net.place(0)] = torch.nan
    assert model.first_not_finite(1) == "log_std"
    model.theta[1, 0] = torch.nan
    assert model.first_not_finite(1) == "policy network"
