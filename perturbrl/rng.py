"""Named random streams, one set per run, so that run k of a population equals run k alone.

A draw is keyed by (seed, stream name, iteration): nothing has to be saved to resume, and no stream depends on how
many numbers another has used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the stream ``names`` of the run ``seed``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return numpy's generator for the stream ``names`` of the run ``seed``."""
    return np.random.default_rng(derive(seed, *names))


class Streams:
    """The random streams of S runs on one device; every draw has a leading axis S."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.device = torch.device(device)
        self._generator = torch.Generator(self.device)

    def uniform(self, name: str, iteration: int, shape: Sequence[int]) -> Tensor:
        """Draw from U[0, 1), shape [S, *shape]."""
        out = torch.empty((len(self.seeds), *shape), device=self.device)
        for k, generator in self._each(name, iteration):
            torch.rand(*shape, generator=generator, out=out[k])
        return out

    def normal(self, name: str, iteration: int, shape: Sequence[int]) -> Tensor:
        """Draw from N(0, 1), shape [S, *shape]."""
        out = torch.empty((len(self.seeds), *shape), device=self.device)
        for k, generator in self._each(name, iteration):
            torch.randn(*shape, generator=generator, out=out[k])
        return out

    def permutations(self, name: str, iteration: int, n: int, count: int) -> Tensor:
        """Draw ``count`` permutations of 0..n-1 for each run, shape [S, count, n]."""
        out = torch.empty((len(self.seeds), count, n), dtype=torch.int64, device=self.device)
        for k, generator in self._each(name, iteration):
            for e in range(count):
                torch.randperm(n, generator=generator, out=out[k, e])
        return out

    def _each(self, name: str, iteration: int) -> Iterator[tuple[int, torch.Generator]]:
        for k, seed in enumerate(self.seeds):
            yield k, self._generator.manual_seed(derive(seed, name, iteration))
