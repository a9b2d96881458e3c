"""Cortical area development: five genes that pattern the cortex of the mouse from anterior to posterior.

C. E. Giacomantonio, G. J. Goodhill, "A Boolean model of the gene regulatory network underlying mammalian cortical area
development", PLoS Computational Biology 6(9): e1000936, 2010. The paper screens all networks of the five genes; these
rules are the one that the Cell Collective has as its model. Its two steady states are the anterior and the posterior
pattern of expression. The start, the morphogen Fgf8 alone, is our choice: either pattern can follow from it.
"""

from __future__ import annotations

from perturbrl.landscape.network import Network


def network() -> Network:
    """Return the network."""
    return Network(
        rules={
            "Fgf8": "Fgf8 and Sp8 and not Emx2",
            "Sp8": "Fgf8 and not Emx2",
            "Pax6": "Sp8 and not (Emx2 or Coup_tfi)",
            "Emx2": "Coup_tfi and not (Fgf8 or Sp8 or Pax6)",
            "Coup_tfi": "not (Fgf8 or Sp8)",
        },
        start=frozenset({"Fgf8"}),
        fates={
            "anterior": (("Fgf8", "Pax6", "Sp8"), ("Emx2", "Coup_tfi")),
            "posterior": (("Emx2", "Coup_tfi"), ("Fgf8", "Pax6", "Sp8")),
        },
        stages={},
        thresholds={},
        default_threshold=0.5,
        name="cortical",
    )
