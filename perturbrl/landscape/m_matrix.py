"""Linear systems (I - Q) x = b of absorbing Markov chains, with a bound on the error of each solution."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import bicgstab, splu

Floats = NDArray[np.float64]

_DIRECT = 1 << 13  # states up to which elimination is affordable: on a hypercube it fills in


class Solver:
    """Solves ``system`` x = b, with ``system`` = I - Q of an absorbing chain [n, n].

    Krylov iterations (BiCGSTAB, van der Vorst 1992), and elimination where these stall and the system is small.
    """

    def __init__(self, system: sparse.csr_array) -> None:
        self._system = system

    def __call__(self, b: Floats) -> tuple[Floats, float]:
        """Return the solution [n] for ``b`` [n], and a bound on the error of its largest entry.

        The error is at most the largest residual times the largest row sum of the inverse.
        """
        solution = self.solve(b)
        residual = float(np.abs(b - self._system @ solution).max(initial=0.0))
        return solution, residual * self._inverse_norm if residual else 0.0

    @cached_property
    def _inverse_norm(self) -> float:
        """A bound on the largest row sum of the inverse, which is not negative.

        If t >= 0 has (I - Q) t >= c > 0, then (I - Q)^-1 1 <= t / c in every row; t is the expected number of jumps.
        """
        jumps = self.solve(np.ones(self._system.shape[0]))
        least = float((self._system @ jumps).min())
        return float(jumps.max()) / least if least > 0.0 and float(jumps.min()) >= 0.0 else np.inf

    def solve(self, b: Floats) -> Floats:
        """Return the solution [n] for ``b`` [n]."""
        if not b.any():
            return np.zeros_like(b)
        solution, failed = bicgstab(self._system, b, rtol=1e-13, atol=0.0, maxiter=5000)
        residual = np.abs(b - self._system @ solution).max()
        if (failed or residual > 1e-12 * np.abs(b).max()) and self._system.shape[0] <= _DIRECT:
            return np.asarray(self._factors.solve(b))
        return np.asarray(solution)

    @cached_property
    def _factors(self) -> splu:
        return splu(self._system.tocsc())
