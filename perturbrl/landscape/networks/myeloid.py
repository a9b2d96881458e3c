"""Myeloid differentiation: 11 transcription factors, one progenitor, four fates.

The rules are Table 1, the progenitor (GATA-2, C/EBPa and PU.1 on) and the fates the steady states of
J. Krumsiek, C. Marr, T. Schroeder, F. J. Theis, "Hierarchical differentiation of myeloid progenitors is encoded in the
transcription factor network", PLoS ONE 6(8): e22649, 2011. The thresholds are this simulator's own: they were chosen so
that each fate is reached by about a quarter of unperturbed cells, and are not measured.
"""

from __future__ import annotations

from perturbrl.landscape.network import Network


def network() -> Network:
    """Return the network."""
    return Network(
        rules={
            "Gata2": "Gata2 and not (Gata1 and Fog1) and not Pu1",
            "Gata1": "(Gata1 or Gata2 or Fli1) and not Pu1",
            "Fog1": "Gata1",
            "Eklf": "Gata1 and not Fli1",
            "Fli1": "Gata1 and not Eklf",
            "Scl": "Gata1 and not Pu1",
            "Cebpa": "Cebpa and not (Gata1 and Fog1 and Scl)",
            "Pu1": "(Cebpa or Pu1) and not (Gata1 or Gata2)",
            "cJun": "Pu1 and not Gfi1",
            "EgrNab": "Pu1 and cJun and not Gfi1",
            "Gfi1": "Cebpa and not EgrNab",
        },
        start=frozenset({"Gata2", "Cebpa", "Pu1"}),
        fates={
            "erythrocyte": (("Gata1", "Eklf"), ("Fli1", "Pu1")),
            "megakaryocyte": (("Gata1", "Fli1"), ("Eklf", "Pu1")),
            "monocyte": (("Pu1", "EgrNab"), ("Gfi1", "Gata1", "Gata2")),
            "granulocyte": (("Pu1", "Gfi1"), ("EgrNab", "Gata1", "Gata2")),
        },
        stages={
            "megakaryocyte-erythroid progenitor": (("Gata1",), ("Pu1",)),
            "granulocyte-monocyte progenitor": (("Pu1",), ("Gata1", "Gata2")),
        },
        thresholds={
            ("Gata2", "Gata2"): 0.25,
            ("Gata2", "Pu1"): 0.515,
            ("Pu1", "Pu1"): 0.25,
            ("Eklf", "Fli1"): 0.35,
            ("Fli1", "Eklf"): 0.35,
            ("Gfi1", "EgrNab"): 0.1,
            ("cJun", "Gfi1"): 0.65,
            ("EgrNab", "Gfi1"): 0.65,
        },
        default_threshold=0.5,
        name="myeloid",
    )
