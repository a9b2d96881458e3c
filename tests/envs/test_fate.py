"""Steering cells to fates: the batched task equals a one-cell reference, and a run of a population the run alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from perturbrl.envs import make as gymnasium_task
from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.envs.fate.environment import FateEnv
from perturbrl.envs.fate.observation import counts
from perturbrl.envs.fate.tasks import tasks
from perturbrl.errors import UserError
from perturbrl.mixing import draw_keys

from .fate_reference import OneFateCell
from .helpers import config, uniforms

VARIANTS: dict[str, dict[str, Any]] = {
    "pairs": {},
    "one gene, sets": {"moves": "set", "max_perturb": 1, "target": "erythrocyte", "start": "monocyte"},
    "held": {"duration": "held", "hold_updates": 30, "target": "fates"},
    "synchronous": {"update": "synchronous", "n_updates": 50},
    "permanent": {"duration": "permanent", "moves": "set", "between": "updates", "n_updates": 40},
    "stages": {
        **{"start": "progenitor", "stages": ["megakaryocyte-erythroid progenitor"], "target": "erythrocyte"},
        **{"stage_reward": 0.5, "between": "updates", "n_updates": 30, "update": "synchronous"},
    },
    "potential": {"shaping": "potential", "shaping_weight": 2.0, "discount": 0.9, "time_limit": "truncated"},
    "tempting": {"shaping": "tempting", "lure": "granulocyte", "start": "progenitor", "target": "monocyte"},
    "few genes": {"controllable": ["Gata1", "Pu1", "Cebpa"], "max_perturb": 3},
}


def fate(**overrides: Any) -> FateEnvConfig:
    made: FateEnvConfig = config("fate", **{"network": "myeloid", "n_decisions": 3, **overrides})
    return made


def make(*configs: FateEnvConfig, n_envs: int = 5) -> FateEnv:
    return FateEnv(configs, n_envs, "cpu")


def allowed_action(obs: torch.Tensor, env: FateEnv, u: torch.Tensor) -> torch.Tensor:
    """Draw uniformly among the allowed actions."""
    mask = env.action_space.allowed(obs)
    assert mask is not None and bool(mask.any(-1).all())
    rank = (u * mask.sum(-1)).long()
    return ((mask.cumsum(-1) == (rank + 1)[..., None]) & mask).long().argmax(-1)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_step_equals_the_one_cell_reference(name: str) -> None:
    configs = [fate(**VARIANTS[name]), dataclasses.replace(fate(**VARIANTS[name]), max_perturb=1, cost=0.3)]
    env, n_steps = make(*configs), 24
    u, draws = uniforms(env, 1, n_steps + 1), torch.rand(n_steps, 2, 5, generator=torch.Generator().manual_seed(2))
    cells = [[OneFateCell(c) for _ in range(5)] for c in configs]
    at = [(k, b) for k in range(2) for b in range(5)]
    obs = env.reset(u[0])
    for k, b in at:
        torch.testing.assert_close(obs[k, b], cells[k][b].reset(u[0, k, b]), rtol=0, atol=1e-6)
    ended = 0
    for t in range(n_steps):
        action = allowed_action(obs, env, draws[t])
        step = env.step(action, u[t + 1])
        for k, b in at:
            expected = cells[k][b].step(int(action[k, b]), u[t + 1, k, b])
            torch.testing.assert_close(step.obs[k, b], expected[0], rtol=0, atol=1e-6)
            assert step.reward[k, b].item() == pytest.approx(expected[1], abs=1e-5)
            assert (step.terminated[k, b].item(), step.truncated[k, b].item()) == expected[2:4]
            torch.testing.assert_close(step.final_obs[k, b], expected[4], rtol=0, atol=1e-6)
        ended += int((step.terminated | step.truncated).sum())
        obs = step.obs
    assert ended > 0


@pytest.mark.parametrize(
    "options", [{}, {"observation": "counts"}, {"dynamics": "hill", "between": "updates", "n_updates": 5}]
)
def test_run_k_of_a_population_equals_run_k_alone(options: dict[str, Any]) -> None:
    configs = [fate(**options, max_perturb=n, cost=0.1 * n) for n in (1, 2, 4)]
    together, alone = make(*configs), make(configs[1])
    u, draws = uniforms(together, 3, 13), torch.rand(12, 3, 5, generator=torch.Generator().manual_seed(4))
    obs, mine = together.reset(u[0]), alone.reset(u[0, 1:2])
    for t in range(12):
        assert torch.equal(obs[1:2], mine)
        action = allowed_action(obs, together, draws[t])
        step, one = together.step(action, u[t + 1]), alone.step(action[1:2], u[t + 1, 1:2])
        assert torch.equal(step.reward[1:2], one.reward) and torch.equal(step.final_obs[1:2], one.final_obs)
        obs, mine = step.obs, one.obs


def test_a_checkpoint_goes_on_to_the_last_bit() -> None:
    first, second = (make(fate(duration="permanent", between="updates", n_updates=20)) for _ in range(2))
    u, draws = uniforms(first, 5, 17), torch.rand(16, 1, 5, generator=torch.Generator().manual_seed(6))
    obs = first.reset(u[0])
    for t in range(16):
        if t == 7:
            second.load_state(first.state())
        action = allowed_action(obs, first, draws[t])
        step = first.step(action, u[t + 1])
        if t >= 7:
            again = second.step(action, u[t + 1])
            assert torch.equal(again.obs, step.obs) and torch.equal(again.reward, step.reward)
        obs = step.obs
    states = first.state(), second.state()
    assert all(torch.equal(states[0][name], states[1][name]) for name in first.saved)


def test_a_gene_is_chosen_once_a_decision_and_done_is_always_allowed() -> None:
    env = make(fate(max_perturb=3), n_envs=1)
    obs = env.reset(uniforms(env, 0))
    chosen: list[int] = []
    for gene in (4, 7):
        obs = env.step(torch.tensor([[gene]]), uniforms(env, 1)).obs
        chosen.append(gene)
        mask = env.action_space.allowed(obs)
        assert mask is not None
        assert [a for a in range(12) if not mask[0, 0, a]] == chosen
    obs = env.step(torch.tensor([[0]]), uniforms(env, 2)).final_obs
    mask = env.action_space.allowed(obs)
    assert mask is not None and bool(mask.all()), "the third gene ends the decision"


def test_setting_a_gene_to_what_it_is_is_masked() -> None:
    env = make(fate(moves="set"), n_envs=4)
    obs = env.reset(uniforms(env, 0))
    mask, state = env.action_space.allowed(obs), obs[..., env.slices["state"]] > 0.5
    assert mask is not None
    assert torch.equal(mask[..., 0:22:2], state) and torch.equal(mask[..., 1:22:2], ~state)


def toggle(**overrides: Any) -> FateEnvConfig:
    return fate(network="toggle", **{"max_perturb": 1, "cost": 0.25, "n_decisions": 4, **overrides})


def test_inputs_are_set_and_are_not_chosen() -> None:
    made = tasks(fate(inputs={"Gata2": False, "Cebpa": True}))
    assert made[0].network.rules["Gata2"] == "False" and made[0].network.rules["Cebpa"] == "True"
    assert not {"Gata2", "Cebpa"} & set(made[0].controllable_genes)


def test_each_source_is_paired_with_each_other_attractor() -> None:
    made = tasks(fate())
    n = len({id(task.target) for task in made})
    assert n > 2 and len(made) == n * (n - 1)
    assert not any(bool(task.target.contains(task.start).any()) for task in made)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"target": "erythrocytes"}, r"env.target: 'erythrocytes' is not known \(did you mean 'erythrocyte'\?\)"),
        (
            {"target": "attractor:9"},
            "env.target: 'attractor:9' is not known; this network has attractor:0 to attractor:",
        ),
        ({"inputs": {"GATA9": True}}, "env.inputs: 'GATA9' is not a gene of the network"),
        ({"inputs": "nowhere.txt"}, "env.inputs: nowhere.txt: No such file"),
        ({"controllable": ["GATA9"]}, "task.controllable: 'GATA9' is not a gene of the network"),
        (
            {"start": "monocyte", "target": "monocyte"},
            "env.target=monocyte: every start of env.start=monocyte is in it",
        ),
        ({"max_perturb": 12}, "task.max_perturb: must be 1 to 11"),
        ({"network": "myelod"}, r"network: 'myelod' is not known \(did you mean 'myeloid'\?\)"),
    ],
)
def test_what_cannot_be_is_one_line(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        make(fate(**overrides))
    assert "\n" not in str(raised.value)


def test_counts_are_binomial() -> None:
    n, level = 4000, torch.tensor([0.0, 0.5, 1.0])
    seen = counts(level.expand(n, 3), draw_keys(n, torch.Generator().manual_seed(0)), molecules=20, capture=0.4).expm1()
    p = 0.4 * (0.05 + 0.95 * level)
    torch.testing.assert_close(seen.mean(0), 20 * p, rtol=0, atol=4 * float((20 * 0.25 / n) ** 0.5))
    torch.testing.assert_close(seen.var(0), 20 * p * (1 - p), rtol=0.1, atol=0)


def test_what_one_flip_of_the_toggle_pays_in_closed_form() -> None:
    # Both genes on: the gene that is updated first goes off, so one flip switches the toggle in half of all cases.
    n = 4000
    env = make(toggle(target="attractor:0", bonus=-0.5, reward=2.0, cost=0.25), n_envs=n)
    obs = env.reset(uniforms(env, 0))
    off = (obs[0, 0, env.slices["state"]] == 0).nonzero()[0, 0]
    step = env.step(off.expand(1, n), uniforms(env, 1))
    paid, reached = step.reward, step.terminated
    assert set(paid.unique().tolist()) == {-0.75, 1.25} and torch.equal(paid == 1.25, reached)
    assert abs(reached.double().mean().item() - 0.5) < 4 * 0.5 / n**0.5


def test_two_flips_switch_the_toggle_surely() -> None:
    env = make(toggle(max_perturb=2), n_envs=50)
    env.reset(uniforms(env, 0))
    first = env.step(torch.zeros(1, 50, dtype=torch.int64), uniforms(env, 1))
    assert not bool(first.reward.any()) and not bool(first.terminated.any())
    second = env.step(torch.ones(1, 50, dtype=torch.int64), uniforms(env, 2))
    assert bool(second.terminated.all())
    torch.testing.assert_close(second.reward, torch.full((1, 50), 1.0 - 0.02 - 2 * 0.25))


@pytest.mark.filterwarnings("ignore")
def test_gymnasium_gets_the_task_without_cells() -> None:
    env = gymnasium_task("fate", network="toggle", max_perturb=1)
    obs, info = env.reset(seed=0)
    assert obs.shape == (2 + 2 + 2 + 2 + 3,) and info["action_mask"].tolist() == [1, 1, 1]
    for _ in range(10):
        assert env.action_masks().all()
        *_, terminated, truncated, info = env.step(0)
        if terminated or truncated:
            break
    assert terminated
    with pytest.raises(UserError, match="env=paper: needs a table of cells, got none"):
        gymnasium_task("paper")
