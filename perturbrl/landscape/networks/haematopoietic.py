"""Blood stem and progenitor cells: 11 transcription factors with a set of states that stem cells wander in.

The rules are Supplementary Table S2 of N. Bonzanni, A. Garg, K. A. Feenstra, J. Schutte, S. Kinston,
D. Miranda-Saavedra, J. Heringa, I. Xenarios, B. Gottgens, "Hard-wired heterogeneity in blood stem cells revealed using
a dynamic regulatory network model", Bioinformatics 29(13): i80-i88, 2013. Stem and progenitor cells are its attractor
of 32 connected states, in which the marker genes of ``HSPC`` stay on; the steady state of GATA1 and SCL is erythroid.
The start is one of the 32 states.
"""

from __future__ import annotations

from perturbrl.landscape.network import Network


def network() -> Network:
    """Return the network."""
    return Network(
        rules={
            "GATA2": "(FLI1 or ERG or SCL and GATA2) and not (GATA1 and ZFPM1) and not (GATA2 and HHEX)",
            "SCL": "FLI1 or ERG or SCL and GATA1 or GATA2 and (SCL or FLI1)",
            "FLI1": "(FLI1 or GATA2 or ERG) and not GATA1",
            "ERG": "(FLI1 or ERG or GATA2 or RUNX1) and not (SCL and ETO2)",
            "RUNX1": "(PU1 or RUNX1 or FLI1 or ERG or GATA2 and SCL) and not (RUNX1 and SMAD6)",
            "PU1": "(FLI1 or RUNX1 or PU1) and not (PU1 and GATA1)",
            "GATA1": "SCL and GATA1 and not PU1",
            "ZFPM1": "GATA2 and SCL",
            "ETO2": "SCL and GATA2",
            "HHEX": "FLI1 or ERG or SCL and GATA2",
            "SMAD6": "ERG or FLI1 or SCL and GATA2",
        },
        start=frozenset({"FLI1", "SCL", "PU1", "HHEX", "SMAD6"}),
        fates={
            "HSPC": (("FLI1", "SCL", "PU1", "HHEX", "SMAD6"), ("GATA1",)),
            "erythroid": (("GATA1", "SCL"), ("PU1", "FLI1")),
        },
        stages={},
        thresholds={},
        default_threshold=0.5,
        name="haematopoietic",
    )
