"""Sets of perturbations that a trained run of env=fate proposes to a plan."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import perturbrl
from perturbrl.errors import UserError
from perturbrl.landscape import networks
from perturbrl.landscape.plan import places
from perturbrl.landscape.plan.settings import settings
from perturbrl.runner import fate_plan, fate_policy

ENV = {"env": "fate", "env.network": "cortical", "env.start": "anterior", "env.target": "posterior"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was hardly trained, of flips of up to two genes."""
    folder = tmp_path_factory.mktemp("fate")
    runs = perturbrl.train(agent="ppo", steps=64, out=folder, overrides={**ENV, "env.max_perturb": 2})
    return runs.paths[0]


def ask(network: str = "cortical", source: str = "anterior", target: str = "posterior") -> places.Question:
    return places.ask(networks.load(network), source, target, settings())[0]


def test_a_run_proposes_what_its_policy_chooses(run: Path) -> None:
    question = ask()
    found = fate_policy.proposals(run, question, 2)
    assert len(found) <= 1, "one start state, one deterministic policy"
    on = dict(zip(question.network.genes, question.start[0].bool().tolist(), strict=True))
    assert all(value != on[gene] for one in found for gene, value in one), "a flip inverts the gene"
    assert found == fate_policy.proposals(run, question, 2)


def test_a_plan_judges_what_a_run_proposes(run: Path) -> None:
    request = fate_plan.Request(
        "anterior", "posterior", "cortical", max_perturb=2, method=f"policy={run}", changes={"stability_runs": 0}
    )
    plan = fate_plan.run(request)
    assert plan.method == f"policy {run.name}"
    assert not plan.complete
    proposed = {frozenset(one) for one in fate_policy.proposals(run, ask(), 2)}
    assert {frozenset(c.perturbation) for c in plan.candidates} <= proposed


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (("myeloid", "monocyte", "erythrocyte"), "its network: cortical has other genes than myeloid"),
        (("cortical", "posterior", "anterior"), "was not trained to reach 'anterior'; its targets are posterior"),
    ],
)
def test_a_run_of_another_task_is_refused(run: Path, question: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fate_policy.proposals(run, ask(*question), 2)


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none"):
        fate_policy.proposals(tmp_path / "none", ask(), 1)


def test_a_target_that_lies_within_the_asked_one_counts() -> None:
    small, large = torch.tensor([0, 1, 1]), torch.tensor([-1, 1, 1])
    assert fate_policy._within(small, large)
    assert not fate_policy._within(large, small)
