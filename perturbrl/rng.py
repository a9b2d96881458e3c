"""Named random streams, one set per run, so that run k of a population equals run k alone.

A draw depends only on (seed, stream name, iteration). Therefore no state is saved for resuming, and the draws of one
stream do not change another.
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
    """The random streams of S runs on one device.

    Every draw has a leading axis S. Row k depends only on ``seeds[k]``, the name and the iteration.

    Parameters
    ----------
    seeds
        One seed for each of the S runs.
    device
        The device of the draws. CPU and GPU draw different numbers from the same seed.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.device = torch.device(device)
        self._generator = torch.Generator(self.device)

    def uniform(self, name: str, iteration: int, shape: Sequence[int]) -> Tensor:
        """Draw uniformly from [0, 1).

        Parameters
        ----------
        name
            The name of the stream, such as ``action``.
        iteration
            The number of the draw in this stream.
        shape
            The shape for each run.

        Returns
        -------
        Tensor
            Shape [S, *shape], float32.
        """
        out = torch.empty((len(self.seeds), *shape), device=self.device)
        for k, generator in self._each(name, iteration):
            torch.rand(*shape, generator=generator, out=out[k])
        return out

    def normal(self, name: str, iteration: int, shape: Sequence[int]) -> Tensor:
        """Draw from the standard normal distribution; parameters as for ``uniform``.

        Returns
        -------
        Tensor
            Shape [S, *shape], float32.
        """
        out = torch.empty((len(self.seeds), *shape), device=self.device)
        for k, generator in self._each(name, iteration):
            torch.randn(*shape, generator=generator, out=out[k])
        return out

    def permutations(self, name: str, iteration: int, n: int, count: int) -> Tensor:
        """Draw ``count`` permutations of 0 to n - 1 for each run.

        Parameters
        ----------
        name
            The name of the stream.
        iteration
            The number of the draw in this stream.
        n
            The length of a permutation.
        count
            The number of permutations.

        Returns
        -------
        Tensor
            Shape [S, count, n], int64.
        """
        out = torch.empty((len(self.seeds), count, n), dtype=torch.int64, device=self.device)
        for k, generator in self._each(name, iteration):
            for e in range(count):
                torch.randperm(n, generator=generator, out=out[k, e])
        return out

    def _each(self, name: str, iteration: int) -> Iterator[tuple[int, torch.Generator]]:
        for k, seed in enumerate(self.seeds):
            yield k, self._generator.manual_seed(derive(seed, name, iteration))
