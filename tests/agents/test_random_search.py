"""Random search: the best policy of all that were tried is kept, alone as in a population, and it improves."""

from __future__ import annotations

import pytest
import torch

from perturbrl.errors import UserError

from .helpers import make_learner


@pytest.mark.parametrize("env", ["paper", "paper_discrete"])
def test_the_best_policy_is_kept_and_scored_by_whole_episodes(env: str) -> None:
    learner = make_learner("random_search", [3, 4], env=env, horizon=8, agent={"sigma": 1.0})
    policies, logs = [], []
    for k in range(4):
        policies.append(learner.stages[0].recipe.groups.theta.clone())  # type: ignore[attr-defined]
        logs.append(learner.iterate(k))
    trials = torch.stack([log["trial_return"] for log in logs])
    assert torch.allclose(trials[0], logs[0]["return_mean"], atol=1e-5)  # undiscounted, and of these episodes alone
    for run in range(2):
        best = int(trials[:, run].argmax())
        assert torch.equal(learner.model.theta[run], policies[best][run])
        assert float(logs[-1]["best_return"][run]) == float(trials[best, run])
    size = learner.model.policy_size
    assert all(torch.equal(one[:, size:], policies[0][:, size:]) for one in policies)  # the critic is not searched
    assert not torch.equal(policies[1][:, :size], policies[0][:, :size])


def test_a_run_of_a_population_is_the_run_alone_and_goes_on_from_its_state() -> None:
    together, alone = make_learner("random_search", [3, 4], horizon=8), make_learner("random_search", [4], horizon=8)
    for k in range(3):
        together.iterate(k)
        alone.iterate(k)
    assert torch.equal(together.model.theta[1], alone.model.theta[0])
    other = make_learner("random_search", [4], horizon=8)
    other.load_state({key: value.clone() for key, value in alone.state().items()})
    assert torch.equal(alone.iterate(3)["trial_return"], other.iterate(3)["trial_return"])
    assert torch.equal(alone.model.theta, other.model.theta)


def test_rollouts_shorter_than_episodes_are_refused() -> None:
    with pytest.raises(UserError, match=r"agent\.rollout_steps: no episode of this task ends within 16 steps"):
        make_learner("random_search", [1], horizon=17).iterate(0)
