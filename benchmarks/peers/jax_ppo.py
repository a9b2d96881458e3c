"""PPO in JAX, the way PureJaxRL lays it out: environment, rollout and update in one compiled function.

Letters: T steps, B cells, G features, M transitions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from harness import Settings
from jax import Array, lax

HORIZON, STEP, CLIP, PERTURB_PROB, MAX_PERTURB = 200, 0.25, 5.0, 0.8, 5
GAMMA, LAMBDA, RATIO, MAX_NORM = 0.99, 0.95, 0.2, 0.5
Params = Any


class Cells(NamedTuple):
    """B cells of the released task; all episodes run in step."""

    now: Array
    target: Array
    error: Array
    t: Array


class Batch(NamedTuple):
    obs: Array
    action: Array
    log_prob: Array
    advantage: Array
    ret: Array


class State(NamedTuple):
    params: Params
    m: Params
    v: Params
    taken: Array
    cells: Cells
    key: Array


def mlp(key: Array, sizes: list[int], last_gain: float) -> Params:
    layers = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        gain = last_gain if i == len(sizes) - 2 else math.sqrt(2)
        weight = jax.nn.initializers.orthogonal(gain)(jax.random.fold_in(key, i), (n_in, n_out))
        layers.append((weight, jnp.zeros(n_out)))
    return layers


def forward(layers: Params, x: Array) -> Array:
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    y: Array = x @ weight + bias
    return y


def value_of(params: Params, x: Array) -> Array:
    return forward(params["value"], x)[..., 0]


def log_prob(mean: Array, log_std: Array, action: Array) -> Array:
    z = (action - mean) * jnp.exp(-log_std)
    return -0.5 * (z**2).sum(-1) - log_std.sum() - 0.5 * math.log(2 * math.pi) * action.shape[-1]


def mse(a: Array, b: Array) -> Array:
    return ((a - b) ** 2).mean(-1)


def crispr(cells: Array, key: Array, happens: Array) -> Array:
    """An event on 1..MAX_PERTURB genes, with replacement, of the cells where ``happens`` [B]."""
    k_size, k_gene, k_kind = jax.random.split(key, 3)
    b, g = cells.shape
    size = jax.random.randint(k_size, (b, 1), 1, MAX_PERTURB + 1)
    gene = jax.random.randint(k_gene, (b, MAX_PERTURB), 0, g)
    factor = 2.0 * jax.random.bernoulli(k_kind, 0.5, (b, MAX_PERTURB))
    on = (jnp.arange(MAX_PERTURB) < size) & happens[:, None]
    factor = jnp.where(on, factor, 1.0)
    for j in range(MAX_PERTURB):
        cells = cells * jnp.where(jnp.arange(g) == gene[:, j, None], factor[:, j, None], 1.0)
    return cells


def reset(table: Array, b: int, key: Array) -> Cells:
    k_start, k_target, k_event = jax.random.split(key, 3)
    n = len(table)
    start = jax.random.randint(k_start, (b,), 0, n)
    target = jnp.minimum(start + 1 + (jax.random.uniform(k_target, (b,)) * (n - 1 - start)).astype(int), n - 1)
    now, aim = table[start], table[target]
    return Cells(crispr(now, k_event, jnp.ones(b, bool)), aim, mse(now, aim), jnp.int32(0))


def step(table: Array, cells: Cells, action: Array, key: Array) -> tuple[Cells, Array, Array]:
    k_happens, k_event, k_reset = jax.random.split(key, 3)
    moved = jnp.clip(cells.now + STEP * jnp.clip(action, -1, 1), -CLIP, CLIP)
    happens = jax.random.uniform(k_happens, (len(moved),)) < PERTURB_PROB
    now = crispr(moved, k_event, happens)
    error = mse(now, cells.target)
    done = cells.t + 1 >= HORIZON
    following = lax.cond(
        done,
        lambda: reset(table, len(now), k_reset),
        lambda: Cells(now, cells.target, error, cells.t + 1),
    )
    return following, cells.error - error, done


def collect(table: Array, n_steps: int, params: Params, cells: Cells, key: Array) -> tuple[Cells, Batch, Array]:
    """Return the cells, the batch [M, ...] and the mean reward."""
    k_noise, k_env = jax.random.split(key)
    b, g = cells.now.shape
    noise = jax.random.normal(k_noise, (n_steps, b, g))
    std = jnp.exp(params["log_std"])

    def one(cells: Cells, given: tuple[Array, Array]) -> tuple[Cells, tuple[Array, ...]]:
        z, k = given
        action = forward(params["policy"], cells.now) + std * z
        following, reward, done = step(table, cells, action, k)
        return following, (cells.now, action, reward, done)

    after, (obs, action, reward, done) = lax.scan(one, cells, (noise, jax.random.split(k_env, n_steps)))
    obs, action = obs.reshape(-1, g), action.reshape(-1, g)
    value = value_of(params, obs).reshape(n_steps, b)
    chance = -0.5 * (noise**2).sum(-1).ravel() - params["log_std"].sum() - 0.5 * math.log(2 * math.pi) * g
    following = jnp.concatenate([value[1:], value_of(params, after.now)[None]])
    going = 1.0 - done[:, None]

    def back(carried: Array, given: tuple[Array, ...]) -> tuple[Array, Array]:
        r, v, v_next, on = given
        carried = r + GAMMA * v_next * on - v + GAMMA * LAMBDA * on * carried
        return carried, carried

    _, advantage = lax.scan(back, jnp.zeros(b), (reward, value, following, going), reverse=True)
    batch = Batch(obs, action, chance, advantage.ravel(), (advantage + value).ravel())
    return after, batch, reward.mean()


def adam(params: Params, grad: Params, m: Params, v: Params, count: Array, lr: float) -> tuple[Params, Params, Params]:
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grad)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, grad)
    rate, second = lr / (1 - 0.9**count), 1 - 0.999**count
    params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v / second) + 1e-5), params, m, v)
    return params, m, v


def loss(params: Params, batch: Batch) -> Array:
    mean = forward(params["policy"], batch.obs)
    ratio = jnp.exp(log_prob(mean, params["log_std"], batch.action) - batch.log_prob)
    a = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std(ddof=1) + 1e-8)
    surrogate = jnp.minimum(ratio * a, jnp.clip(ratio, 1 - RATIO, 1 + RATIO) * a).mean()
    return -surrogate + 0.5 * ((value_of(params, batch.obs) - batch.ret) ** 2).mean()


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def iterate(s: Settings, table: Array, state: State) -> tuple[State, Array]:
    """One rollout, then ``epochs`` passes of minibatches."""
    key, k_collect, k_order = jax.random.split(state.key, 3)
    cells, batch, reward = collect(table, s.rollout // len(state.cells.now), state.params, state.cells, k_collect)

    def minibatch(carry: Any, rows: Array) -> tuple[Any, None]:
        params, m, v, count = carry
        grad = jax.grad(loss)(params, Batch(*(x[rows] for x in batch)))
        norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grad)))
        grad = jax.tree.map(lambda g: g * jnp.minimum(1.0, MAX_NORM / (norm + 1e-6)), grad)
        return (*adam(params, grad, m, v, count + 1, s.lr), count + 1), None

    def epoch(carry: Any, key: Array) -> tuple[Any, None]:
        order = jax.random.permutation(key, s.rollout).reshape(-1, s.minibatch)
        return lax.scan(minibatch, carry, order)

    carry = (state.params, state.m, state.v, state.taken)
    (params, m, v, count), _ = lax.scan(epoch, carry, jax.random.split(k_order, s.epochs))
    return State(params, m, v, count, cells, key), reward


def start(s: Settings, table: Array, n_envs: int) -> State:
    key = jax.random.key(0)
    k_policy, k_value, k_cells, key = jax.random.split(key, 4)
    g = s.features
    params = {
        "policy": mlp(k_policy, [g, *s.hidden, g], 0.01),
        "log_std": jnp.zeros(g),
        "value": mlp(k_value, [g, *s.hidden, 1], 1.0),
    }
    m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
    return State(params, m, v, jnp.float32(0), reset(table, n_envs, k_cells), key)


Iterate = Callable[[Settings, Array, State], tuple[State, Array]]


class Run:
    def __init__(self, s: Settings, cells: np.ndarray[Any, Any], n_envs: int, iterate: Iterate = iterate) -> None:
        self.s, self.table, self.iterate = s, jnp.asarray(cells), iterate
        self.state = start(s, self.table, n_envs)
        self.reward = math.nan

    def __call__(self) -> int:
        self.state, reward = self.iterate(self.s, self.table, self.state)
        self.reward = float(reward)
        jax.block_until_ready(self.state.params)  # type: ignore[no-untyped-call]
        return self.s.rollout
