"""Signed mutual information of binary genes. Letters: N cells, G genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape.infer.trajectory import Binary, Values


@dataclass(frozen=True)
class Association:
    """Pairwise association of G genes, each [G, G] and symmetric.

    ``bits`` is the mutual information with its bias taken off (0 where that is negative); ``sign`` is +1, -1 or 0;
    ``p`` is the p-value of the G-test of independence. The diagonals are 0, 0 and 1.
    """

    bits: Values
    sign: NDArray[np.int64]
    p: Values


def plug_in(joint: Values) -> Values:
    """Return the mutual information in bits of joint probabilities [..., 2, 2]: sum p log2(p / (row x column))."""
    expected = joint.sum(axis=-1, keepdims=True) * joint.sum(axis=-2, keepdims=True)
    ratio = np.divide(joint, expected, out=np.ones_like(joint), where=joint > 0)
    return np.asarray((joint * np.log2(ratio)).sum(axis=(-1, -2)))


def association(binary: Binary, n_independent: float) -> Association:
    """Return mutual information, sign and p-value of every pair of the genes of ``binary`` [N, G].

    The plug-in estimate has a bias of (rows - 1)(columns - 1) / (2 n ln 2) bits under independence (Miller 1955;
    here 1 / (2 n ln 2)), which is taken off. The G statistic 2 n ln 2 x plug-in follows a chi-squared distribution
    with one degree of freedom under independence. ``n_independent`` is n. The sign is that of the covariance.
    """
    from scipy.stats import chi2

    on = binary.astype(np.float64)
    n = len(on)
    both = on.T @ on / n
    share = on.mean(axis=0)
    one, other = share[:, None], share[None, :]
    joint = np.stack([1 - one - other + both, other - both, one - both, both], axis=-1)
    joint = np.maximum(joint, 0).reshape(*both.shape, 2, 2)
    raw = np.maximum(plug_in(joint), 0)
    raw = (raw + raw.T) / 2  # exactly symmetric, so that the two directions of a pair rank equally
    bits = np.maximum(raw - 1 / (2 * n_independent * np.log(2)), 0)
    sign = np.sign(np.round(both - one * other, 12)).astype(np.int64)
    p = chi2.sf(2 * n_independent * np.log(2) * raw, 1)
    np.fill_diagonal(bits, 0)
    np.fill_diagonal(sign, 0)
    np.fill_diagonal(p, 1)
    return Association(bits, sign, p)
