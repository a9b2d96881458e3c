"""Random words as a hash of a key and a counter: each can be computed alone, in any order, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
"""The largest 32-bit word."""


def mix32_(x: Tensor, scratch: Tensor | None = None) -> Tensor:
    """Hash 32-bit words held in int64, in place: the finaliser of MurmurHash3 (Appleby), a bijection of 0..2^32-1.

    ``scratch``, of the shape of ``x``, is overwritten; one is allocated when None.
    """
    shifted = torch.empty_like(x) if scratch is None else scratch
    # Products wrap modulo 2^64, whose low 32 bits are the product's own.
    x.bitwise_xor_(torch.bitwise_right_shift(x, 16, out=shifted)).mul_(0x85EBCA6B).bitwise_and_(WORD)
    x.bitwise_xor_(torch.bitwise_right_shift(x, 13, out=shifted)).mul_(0xC2B2AE35).bitwise_and_(WORD)
    return x.bitwise_xor_(torch.bitwise_right_shift(x, 16, out=shifted))


def draw_keys(n: int, generator: torch.Generator) -> Tensor:
    """Return ``n`` random keys, [n] int64, on the device of ``generator``."""
    return torch.randint(2**63 - 1, (n,), generator=generator, device=generator.device)


def words(key: Tensor, counter: Tensor | int) -> Tensor:
    """Return the 32-bit word number ``counter`` of each key, int64; ``key`` int64 and ``counter`` are broadcast.

    The low half of a key is where its sequence starts, the high half, made odd, its stride: two keys hardly ever share
    more than single words (split streams of Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    OOPSLA 2014, section 4, with 32-bit words).
    """
    return mix32_(((key >> 32 | 1) * counter + key).bitwise_and_(WORD))


def skip(key: Tensor, n: Tensor) -> Tensor:
    """Return the keys whose word number k is the word number n + k of ``key``; both int64, broadcast."""
    return (key >> 32 << 32) | (key + (key >> 32 | 1) * n).bitwise_and_(WORD)


def uniforms(key: Tensor, counter: Tensor | int) -> Tensor:
    """Return the word number ``counter`` of each key as a number within (0, 1), float64."""
    return words(key, counter).double().add_(0.5).mul_(2.0**-32)


def pick(word: Tensor, n: int | Tensor) -> Tensor:
    """Map words to 0..n-1, in place: floor(word n / 2^32), uniform but for n / 2^32 at most."""
    return word.mul_(n).bitwise_right_shift_(32)
