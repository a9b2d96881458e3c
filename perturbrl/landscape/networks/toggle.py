"""The genetic toggle switch: two repressors, each of which shuts the other off.

T. S. Gardner, C. R. Cantor, J. J. Collins, "Construction of a genetic toggle switch in Escherichia coli", Nature 403,
339-342, 2000, in Boolean form. The start, both off, is undecided.
"""

from __future__ import annotations

from perturbrl.landscape.network import Network


def network() -> Network:
    """Return the network."""
    return Network(
        rules={"LacI": "not TetR", "TetR": "not LacI"},
        start=frozenset(),
        fates={"LacI state": (("LacI",), ("TetR",)), "TetR state": (("TetR",), ("LacI",))},
        stages={},
        thresholds={},
        default_threshold=0.5,
        name="toggle",
    )
