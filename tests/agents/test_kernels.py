"""The native arithmetic against its torch twin, and what happens where it cannot be had."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perturbrl.agents import kernels
from perturbrl.agents.executors import PlainSteps
from perturbrl.agents.kernels import native, reference
from perturbrl.agents.kernels.chain import Chain, Moments
from perturbrl.agents.optim import Adam
from perturbrl.errors import UserError

from .helpers import cell_table, make_learner

ACTIVATIONS = st.sampled_from(["identity", "tanh", "relu"])
# below, at and beyond the tiles (6 rows by 16 columns, 8 by 32), widths of 1, and more rows than are taken at a time
width, rows = st.sampled_from([1, 2, 7, 31, 32, 33, 50, 64, 70]), st.sampled_from([1, 3, 8, 9, 17, 64, 131])


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everything(twin, chain: Chain, runs: int, batch: int, seed: int, bf16: bool) -> list[Tensor]:
    n_in, n_out = chain.sizes[0], chain.sizes[-1]
    scale = max(chain.sizes) ** -0.5
    theta, v = scale * draw(seed, runs, chain.stop + 3), scale * draw(seed + 1, runs, chain.stop + 3)
    wide = draw(seed + 2, runs, batch, n_in + 2)
    x, dx = wide[..., 1 : n_in + 1], draw(seed + 3, runs, batch, n_in)  # as a branch sees a slice of its input
    dy, grad = draw(seed + 4, runs, batch, n_out), torch.full_like(theta, torch.nan)
    y, cache = twin.mlp_forward(chain, theta, x, bf16)
    pulled = twin.mlp_vjp(chain, theta, cache, dy, grad, True, bf16)
    pushed = twin.mlp_jvp(chain, theta, cache, v, dx, bf16)
    alone = twin.mlp_jvp(chain, theta, cache, v, None, bf16)
    assert torch.isnan(grad[:, : chain.start]).all() and torch.isnan(grad[:, chain.stop :]).all()
    return [y.clone(), pulled, pushed, alone, grad[:, chain.start : chain.stop]]


@given(st.lists(width, min_size=2, max_size=4), st.lists(ACTIVATIONS, min_size=3, max_size=3), rows, st.integers(1, 3))
@settings(max_examples=120)
def test_networks_agree_with_torch(sizes: list[int], activations: list[str], batch: int, runs: int) -> None:
    chain = Chain(2, tuple(sizes), tuple(activations[: len(sizes) - 1]))
    ours, theirs = (everything(twin, chain, runs, batch, sum(sizes), False) for twin in (native.load(), reference))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the lesser processor is an x86")
@pytest.mark.parametrize("march", ["x86-64-v3", pytest.param("x86-64", marks=pytest.mark.slow)])
def test_code_for_a_lesser_processor_agrees_with_torch(anew, monkeypatch, march: str) -> None:
    """The tiles of AVX2 and of SSE, on whatever x86 this is."""
    monkeypatch.setenv("PERTURBRL_MARCH", march)
    twin = native.load()
    for sizes in ((33, 256, 70, 5), (16, 1, 7), (50, 31, 1)):
        chain = Chain(2, sizes, ("tanh", "relu", "identity")[-len(sizes) + 1 :])
        for batch in (1, 7, 131):
            pairs = zip(*(everything(one, chain, 2, batch, 0, False) for one in (twin, reference)), strict=True)
            for a, b in pairs:
                torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("sizes", [(64, 64, 16), (33, 70, 5), (8, 31, 1), (7, 1, 3)])
def test_bfloat16_rounds_products_as_torch_does(sizes: tuple[int, ...]) -> None:
    """Operands are rounded alike, sums are in float32: what is left is a rounding of activations near a tie."""
    twin = native.load()
    if not twin.has_bf16:
        pytest.skip("this processor does not multiply bfloat16")
    chain = Chain(0, sizes, ("tanh", "identity"))
    ours, theirs, exact = (
        everything(one, chain, 2, 17, 0, bf16) for one, bf16 in ((twin, True), (reference, True), (reference, False))
    )
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert (a - b).abs().mean() <= 0.1 * (b - c).abs().mean() + 1e-6  # nearer to each other than to float32
        assert (b - c).abs().max() < 0.05 * c.abs().max() + 0.05


@given(st.integers(1, 3), rows, st.integers(1, 70), st.integers(0, 99))
@settings(max_examples=40)
def test_gaussian_agrees_with_torch(runs: int, batch: int, size: int, seed: int) -> None:
    mean, action = draw(seed, runs, batch, size + 1)[..., :size], draw(seed + 1, runs, batch, size)
    log_std, weight = 0.3 * draw(seed + 2, runs, size), draw(seed + 3, runs, batch)
    log_prob, z = native.load().gaussian_log_prob(mean, action, log_std)
    expected, expected_z = reference.gaussian_log_prob(mean, action, log_std)
    torch.testing.assert_close(log_prob, expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(z, expected_z)
    pairs = zip(native.load().gaussian_vjp(z, log_std, weight), reference.gaussian_vjp(z, log_std, weight), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_adam_and_clipping_agree_with_torch(masked: bool) -> None:
    runs, n, found = 3, 77, []
    mask = torch.tensor([True, False, True]) if masked else None
    for one in ("torch", "native"):
        kernels.configure(one, "float32")
        wide = draw(0, runs, n + 5)
        adam = Adam(wide[:, 2 : n + 2], [0.1, 0.02, 0.003])
        for step in range(5):
            grad = 10 ** (step - 2) * draw(step + 1, runs, n + 4)[:, 1 : n + 1]
            adam.step(grad, mask, kernels.current().clip_scale(grad, torch.tensor([[0.5], [1.0], [1e6]])))
        found.append((wide, adam.m, adam.v, adam.t))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_gradient_that_is_not_finite_stays_so() -> None:
    kernels.configure("native", "float32")
    grad = torch.tensor([[1.0, torch.nan], [torch.inf, 0.0]])
    scaled = grad * kernels.current().clip_scale(grad, torch.ones(2, 1))
    assert not torch.isfinite(scaled).all(1).any()


@pytest.mark.parametrize(
    ("name", "agent", "policy"),
    [
        ("ppo", {"ent_coef": 0.02, "vf_coef": 0.3, "max_grad_norm": 0.05}, {}),
        ("ppo", {"normalise_advantage": False}, {"activation": "relu", "hidden": [50, 20]}),
        ("ppo", {"target_kl": 0.001}, {}),
        ("ppo", {}, {"net": "branches"}),
        ("trpo", {}, {}),
        ("trpo", {"kl": "summed"}, {"net": "branches"}),
        ("trpo_ppo", {"handover": "parameters_and_moments"}, {}),
    ],
)
def test_agents_learn_alike_on_either_twin(name: str, agent: dict, policy: dict) -> None:
    """One iteration (several of TRPO->PPO: past the handover), from the same networks and the same rollout."""
    learners, logs = [], []
    for one in ("torch", "native"):
        kernels.configure(one, "float32")
        learner = make_learner(name, [3, 1], agent=agent, policy=policy, table=cell_table(n_features=9))
        start = learner.model.theta.clone()
        logs.append([learner.iterate(i) for i in range(learner.n_iterations if name == "trpo_ppo" else 1)][-1])
        learners.append(learner)
    a, b = (learner.model.theta for learner in learners)
    assert (a - start).norm() > 1e-3
    assert (a - b).norm() < 2e-2 * (a - start).norm()
    assert logs[0].keys() == logs[1].keys()
    for key in logs[0]:
        torch.testing.assert_close(logs[0][key], logs[1][key], rtol=2e-2, atol=2e-3, equal_nan=True, msg=key)


def test_the_whole_epoch_of_ppo_is_its_single_steps() -> None:
    """The native epoch against ``step`` on the same native layers: the same mathematics, written twice."""
    kernels.configure("native", "float32")
    learners = [make_learner("ppo", [3, 1], agent={"ent_coef": 0.02}) for _ in range(2)]
    assert all(learner.stages[0].executor == "native" for learner in learners)
    recipe = learners[1].stages[0].recipe
    recipe.executor = PlainSteps(recipe.step, recipe.c.minibatch)
    for learner in learners:
        learner.iterate(0)
    a, b = (learner.model.theta for learner in learners)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


def test_value_epochs_are_refused_by_torch_and_taken_natively() -> None:
    chain = Chain(0, (4, 5, 1), ("tanh", "identity"))
    theta, obs, ret = draw(0, 2, chain.stop), draw(1, 2, 12, 4), draw(2, 2, 12)
    start, grad = theta.clone(), torch.zeros_like(theta)
    moments = Moments(
        torch.zeros_like(theta), torch.zeros_like(theta), torch.zeros(2), torch.full((2,), 0.01), (0.9, 0.999, 1e-5)
    )
    kernels.configure("torch", "float32")
    assert not kernels.current().value_epoch(chain, theta, grad, moments, obs, ret, 4)
    assert torch.equal(theta, start)
    kernels.configure("native", "float32")
    assert kernels.current().value_epoch(chain, theta, grad, moments, obs, ret, 4)
    assert moments.t.tolist() == [3, 3] and not torch.equal(theta, start)


def test_float64_and_other_devices_go_to_torch() -> None:
    kernels.configure("native", "float32")
    assert kernels.current().native_for(torch.zeros(1)) is not None
    assert kernels.current().native_for(torch.zeros(1, dtype=torch.float64)) is None
    assert kernels.current().native_for(torch.zeros(1, device="meta")) is None


@pytest.fixture
def anew(tmp_path, monkeypatch):
    """A machine on which nothing has been built yet."""
    monkeypatch.setenv("PERTURBRL_CACHE", str(tmp_path / "cache"))
    native._load.cache_clear()
    yield
    native._load.cache_clear()


@pytest.mark.parametrize(
    ("compiler", "why"),
    [("no-such-compiler", "No such file"), ("false", "false failed"), ("true", "could not be built")],
)
def test_without_a_working_compiler_torch_does_the_work(anew, monkeypatch, compiler: str, why: str) -> None:
    monkeypatch.setenv("CC", compiler)
    assert kernels.configure("auto", "float32") == "torch"
    with pytest.raises(UserError, match=why) as error:
        kernels.configure("native", "float32")
    assert "kernels=auto" in str(error.value) and "\n" not in str(error.value)


def test_no_compiler_at_all_is_said(anew, monkeypatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="no C compiler was found"):
        kernels.configure("native", "float32")


def test_a_library_with_wrong_results_is_refused(anew, monkeypatch) -> None:
    monkeypatch.setattr(native.Native, "mlp_forward", lambda *a: (reference.mlp_forward(*a[1:])[0] + 1, None))
    monkeypatch.setattr(native.Native, "mlp_vjp", lambda self, c, t, cache, dy, grad, need, b: torch.zeros(2, 11, 37))
    with pytest.raises(UserError, match="differs from torch's"):
        kernels.configure("native", "float32")


def test_it_is_built_once(anew, tmp_path) -> None:
    assert kernels.configure("native", "float32") == "native"
    (built,) = (tmp_path / "cache" / "kernels").iterdir()
    stamp = built.stat().st_mtime_ns
    native._load.cache_clear()
    assert kernels.configure("native", "float32") == "native"
    assert built.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(("chosen", "precision"), [("fast", "float32"), ("auto", "float8")])
def test_an_unknown_choice_is_refused(chosen: str, precision: str) -> None:
    with pytest.raises(UserError, match=r"kernels|precision"):
        kernels.configure(chosen, precision)


def test_building_ahead_and_asking_at_once_build_once(anew, tmp_path) -> None:
    kernels.begin("auto")
    assert kernels.configure("native", "float32") == "native"
    assert len(list((tmp_path / "cache" / "kernels").iterdir())) == 1


LOAD = "from perturbrl.agents import kernels; print(kernels.configure('native', 'float32'))"


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> tuple[str, bytes]:
    """Name and bytes of a library that was built."""
    folder = tmp_path_factory.mktemp("library")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTURBRL_CACHE", str(folder))
        native._load.cache_clear()
        assert kernels.configure("native", "float32") == "native"
        native._load.cache_clear()
    (built,) = (folder / "kernels").iterdir()
    return built.name, built.read_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b[: len(b) // 2],
        pytest.param(lambda b: b[:100], marks=pytest.mark.slow),
        pytest.param(lambda b: b"", marks=pytest.mark.slow),
        lambda b: b[:-9] + b"x" * 9,
    ],
)
def test_a_damaged_library_is_built_anew(anew, library, tmp_path, spoil) -> None:
    """In a process of its own: to load a library that was cut short ends in a bus error."""
    name, whole = library
    built = tmp_path / "cache" / "kernels" / name
    built.parent.mkdir(parents=True)
    built.write_bytes(spoil(whole))
    built.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "native\n"), done.stderr
    (again,) = (tmp_path / "cache" / "kernels").iterdir()
    assert len(again.read_bytes()) == len(whole)
