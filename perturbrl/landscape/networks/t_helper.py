"""Differentiation of T-helper cells: 19 genes and four signals that turn a naive cell into Th1 or Th2.

L. Mendoza, I. Xenarios, "A method for the generation of standardized qualitative dynamical systems of regulatory
networks", Theoretical Biology and Medical Modelling 3:13, 2006, in Boolean form: a gene is on where one of
its activators is on and none of its inhibitors. Without signals the steady states are Th0 (nothing on), Th1 and Th2.
The start is the naive cell, Th0, which stays naive until it is perturbed or a signal (IFNb, IL12, IL18, TCR) is on.
"""

from __future__ import annotations

from perturbrl.landscape.network import Network


def network() -> Network:
    """Return the network."""
    return Network(
        rules={
            "Tbet": "(Tbet or STAT1) and not GATA3",
            "GATA3": "(GATA3 or STAT6) and not Tbet",
            "IFNg": "(Tbet or STAT4 or IRAK or NFAT) and not STAT3",
            "IFNgR": "IFNg",
            "JAK1": "IFNgR and not SOCS1",
            "STAT1": "JAK1 or IFNbR",
            "SOCS1": "STAT1 or Tbet",
            "IL4": "GATA3 and not STAT1",
            "IL4R": "IL4 and not SOCS1",
            "STAT6": "IL4R",
            "IL10": "GATA3",
            "IL10R": "IL10",
            "STAT3": "IL10R",
            "IL12R": "IL12",
            "STAT4": "IL12R and not GATA3",
            "IL18R": "IL18 and not STAT6",
            "IRAK": "IL18R",
            "IFNbR": "IFNb",
            "NFAT": "TCR",
            "IFNb": "IFNb",
            "IL12": "IL12",
            "IL18": "IL18",
            "TCR": "TCR",
        },
        start=frozenset(),
        fates={
            "Th1": (("Tbet",), ("GATA3",)),
            "Th2": (("GATA3",), ("Tbet",)),
        },
        stages={"Th0": ((), ("Tbet", "GATA3"))},
        thresholds={},
        default_threshold=0.5,
        name="t_helper",
    )
