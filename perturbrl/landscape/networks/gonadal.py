"""Human gonadal sex determination: 19 genes that turn the bipotential gonad into testis or ovary.

The rules are Table 1 of O. Rios, S. Frias, A. Rodriguez, S. Kofman, H. Merchant, L. Torres, L. Mendoza, "A Boolean
network model of human gonadal sex determination", Theoretical Biology and Medical Modelling 12:26, 2015. The fates are
its three attractors: Sertoli cells, granulosa cells, and a dysgenetic gonad in which nothing is expressed. The start is
the urogenital ridge (UGR on, all else off). SRY has no rule of the sex chromosomes: clamp it at 0 for a 46,XX gonad.
"""

from __future__ import annotations

from perturbrl.landscape.network import Network


def network() -> Network:
    """Return the network."""
    female = "CTNNB1 or FOXL2 or WNT4"
    return Network(
        rules={
            "UGR": "UGR and not (NR5A1 or WNT4)",
            "CBX2": "UGR and not (NR0B1 and WNT4 and CTNNB1)",
            "GATA4": "UGR or WNT4 or NR5A1 or SRY",
            "WT1mKTS": "UGR or GATA4",
            "WT1pKTS": "(UGR or GATA4) and not (WNT4 and CTNNB1)",
            "NR5A1": "(UGR or CBX2 or WT1mKTS or GATA4) and not (NR0B1 and WNT4)",
            "NR0B1": "(WT1mKTS or (WNT4 and CTNNB1)) and not (NR5A1 and SOX9)",
            "SRY": "(CBX2 and NR5A1 and (WT1mKTS or GATA4 and WT1pKTS) or SRY or SOX9) and not CTNNB1",
            "SOX9": f"(SRY or PGD2 or FGF9 and SOX9) and not ({female})",
            "FGF9": "SOX9 and not WNT4",
            "PGD2": "SOX9",
            "DMRT1": "(SRY or SOX9) and not FOXL2",
            "DHH": "SOX9",
            "DKK1": "SRY or SOX9",
            "AMH": "SOX9 and GATA4 and NR5A1 and not (NR0B1 and CTNNB1)",
            "WNT4": "(GATA4 or CTNNB1 or RSPO1 or NR0B1) and not (FGF9 or DKK1)",
            "RSPO1": "(WNT4 or CTNNB1) and not DKK1",
            "FOXL2": "WNT4 and CTNNB1 and not (DMRT1 or SOX9)",
            "CTNNB1": "(WNT4 or RSPO1) and not (SRY or SOX9 and AMH)",
        },
        start=frozenset({"UGR"}),
        fates={
            "Sertoli": (("SOX9", "FGF9", "AMH"), ("WNT4", "FOXL2")),
            "granulosa": (("WNT4", "RSPO1", "FOXL2"), ("SOX9", "SRY")),
            "dysgenetic": ((), ("UGR", "GATA4", "NR5A1", "SOX9", "WNT4")),
        },
        stages={"bipotential gonad": (("UGR",), ("SOX9", "FOXL2"))},
        thresholds={},
        default_threshold=0.5,
        name="gonadal",
    )
