from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.mixing import draw_keys, mix32_, pick, skip, uniforms, words

WORDS = st.integers(0, 2**32 - 1)
KEYS = st.integers(-(2**63), 2**63 - 1)


def murmur_finaliser(x: int) -> int:
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    return x ^ (x >> 16)


@given(st.lists(WORDS, min_size=1, max_size=20))
def test_the_hash_is_murmurs_finaliser(numbers: list[int]) -> None:
    assert mix32_(torch.tensor(numbers)).tolist() == [murmur_finaliser(w) for w in numbers]


@given(st.lists(KEYS, min_size=1, max_size=20), st.integers(0, 2**40))
def test_a_word_by_hand(keys: list[int], counter: int) -> None:
    expected = [murmur_finaliser((key + (key >> 32 | 1) * counter) % 2**32) for key in keys]
    assert words(torch.tensor(keys), counter).tolist() == expected


@given(st.lists(KEYS, min_size=1, max_size=20), st.integers(0, 2**30), st.integers(0, 2**30))
def test_skipped_words(keys: list[int], n: int, k: int) -> None:
    key = torch.tensor(keys)
    assert words(skip(key, torch.tensor(n)), k).tolist() == words(key, n + k).tolist()


@given(WORDS, st.integers(1, 2**20))
def test_pick_is_in_range_and_proportional(word: int, n: int) -> None:
    assert pick(torch.tensor([word]), n).tolist() == [word * n >> 32]
    assert 0 <= word * n >> 32 < n


def test_numbers_of_a_key_and_of_a_counter_are_uniform() -> None:
    key = draw_keys(400, torch.Generator().manual_seed(3))
    drawn = uniforms(key[:, None], torch.arange(250))
    assert drawn.min() > 0
    assert drawn.max() < 1
    for axis in (0, 1):
        assert (drawn.mean(axis) - 0.5).abs().max() < 5 * (1 / 12 / drawn.shape[axis]) ** 0.5
    share = torch.bincount((drawn.flatten() * 16).long()) / drawn.numel()
    assert (share - 1 / 16).abs().max() < 5 * (1 / 16 / drawn.numel()) ** 0.5
    neighbours = ((drawn[:, 1:] - 0.5) * (drawn[:, :-1] - 0.5)).mean() * 12
    assert abs(neighbours) < 5 / drawn.numel() ** 0.5
