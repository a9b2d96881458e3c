"""TRPO in JAX, compiled whole like ``jax_ppo``: Fisher-vector products from one linearisation and its transpose."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from harness import Settings
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from peers.jax_ppo import State, adam, collect, forward, log_prob, value_of

DELTA, DAMPING, SHRINK, TRIES = 0.01, 0.01, 0.8, 10


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def iterate(s: Settings, table: Array, state: State) -> tuple[State, Array]:
    """One rollout, one natural step of the policy, ``epochs`` passes of the critic. KL per action dimension."""
    key, k_collect, k_order = jax.random.split(state.key, 3)
    cells, batch, reward = collect(table, s.rollout // len(state.cells.now), state.params, state.cells, k_collect)
    advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std(ddof=1) + 1e-8)
    flat, unravel = ravel_pytree({"policy": state.params["policy"], "log_std": state.params["log_std"]})
    size = batch.action.shape[1]
    some = batch.obs[:: round(1 / s.fisher_fraction)]

    def outputs(flat: Array, obs: Array = batch.obs) -> tuple[Array, Array]:
        tree = unravel(flat)
        return forward(tree["policy"], obs), tree["log_std"]

    def gain(flat: Array) -> Array:
        return (jnp.exp(log_prob(*outputs(flat), batch.action) - batch.log_prob) * advantage).mean()

    old_mean, old_log_std = outputs(flat)
    _, push = jax.linearize(lambda flat: outputs(flat, some), flat)
    pull = jax.linear_transpose(push, flat)

    def fisher(v: Array) -> Array:
        d_mean, d_log_std = push(v)
        weighted = (d_mean * jnp.exp(-2 * old_log_std) / (len(some) * size), 2 * d_log_std / size)
        product: Array = pull(weighted)[0] + DAMPING * v
        return product

    def cg(carry: Any, _: None) -> tuple[Any, None]:
        x, r, p, rr = carry
        hp = fisher(p)
        alpha = jnp.where(rr > 1e-10, rr / (p @ hp), 0.0)
        x, r = x + alpha * p, r - alpha * hp
        new = r @ r
        return (x, r, r + jnp.where(rr > 1e-10, new / rr, 0.0) * p, new), None

    before, g = jax.value_and_grad(gain)(flat)
    (d, _, _, _), _ = lax.scan(cg, (jnp.zeros_like(g), g, g, g @ g), None, s.cg_iterations)
    full = jnp.sqrt(2 * DELTA / (g @ d + 1e-8)) * d

    def kl(flat: Array) -> Array:
        mean, log_std = outputs(flat)
        ratio = jnp.exp(2 * (old_log_std - log_std))
        moved = ((old_mean - mean) * jnp.exp(-log_std)) ** 2
        mean_kl: Array = 0.5 * (moved + ratio - 1 - jnp.log(ratio)).mean()
        return mean_kl

    def search(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        tries, _, factor = carry
        tried = flat + factor * full
        passed = (kl(tried) < DELTA) & (gain(tried) > before)
        return tries + 1, passed, jnp.where(passed, factor, factor * SHRINK)

    begin = (jnp.int32(0), jnp.bool_(False), jnp.float32(1.0))
    _, passed, factor = lax.while_loop(lambda c: (c[0] < TRIES) & ~c[1], search, begin)
    policy = unravel(flat + jnp.where(passed, factor, 0.0) * full)

    def minibatch(carry: Any, rows: Array) -> tuple[Any, None]:
        value, m, v, count = carry

        def loss(value: Any) -> Array:
            return ((value_of({"value": value}, batch.obs[rows]) - batch.ret[rows]) ** 2).mean()

        return (*adam(value, jax.grad(loss)(value), m, v, count + 1, s.lr), count + 1), None

    def epoch(carry: Any, key: Array) -> tuple[Any, None]:
        return lax.scan(minibatch, carry, jax.random.permutation(key, s.rollout).reshape(-1, s.critic_minibatch))

    carry = (state.params["value"], state.m["value"], state.v["value"], state.taken)
    (value, m, v, count), _ = lax.scan(epoch, carry, jax.random.split(k_order, s.epochs))
    params = {**policy, "value": value}
    return State(params, {**state.m, "value": m}, {**state.v, "value": v}, count, cells, key), reward
