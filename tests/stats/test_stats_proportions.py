"""The score interval of a proportion against published values."""

from __future__ import annotations

import pytest

from perturbrl.stats import wilson


def test_wilson_against_published_values() -> None:
    """Table 1 of Newcombe 1998, Statistics in Medicine 17:857, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        span = wilson(successes / n, n)
        assert (span.low, span.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    span = wilson(1 / 29, 29)
    assert (span.low, span.high) == (pytest.approx(0.0061, abs=5e-5), pytest.approx(0.1718, abs=5e-5))
    with pytest.raises(ValueError, match="share"):
        wilson(1.5, 10)
