"""Which genes and conditions the columns of differential genes leave out, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SHOWN = 6
"""Names of a list that a page shows; the summaries of the runs have more."""


def gene_note(summaries: Iterable[Mapping[str, Any]]) -> str:
    """Return sentences on the genes that are tested nowhere, and on those that only perturbed cells express.

    Empty for evaluations that do not tell (of earlier versions).
    """
    headers = [summary.get("header", {}) for summary in summaries]
    sentences = (
        _listed(headers, "induced_genes", "tested though no control expresses them: {}"),
        _listed(
            headers, "untested_genes", "in no DE column, for neither controls nor perturbed cells express them: {}"
        ),
    )
    return "".join(f" Genes {sentence}." for sentence in sentences if sentence)


def _listed(headers: list[Mapping[str, Any]], key: str, sentence: str) -> str:
    """Return ``sentence`` with the count and the names of a list of genes; "" where it is empty in every evaluation."""
    lists = [header[key] for header in headers if isinstance(header.get(key), Mapping)]
    most = max(lists, key=lambda entry: int(entry["n"]), default=None)
    if most is None or not most["n"]:
        return ""
    least = min(int(entry["n"]) for entry in lists)
    count = str(most["n"]) if least == most["n"] else f"{least} to {most['n']}"
    names = ", ".join(most["names"][:SHOWN])
    return sentence.format(f"{count} ({names}{', ...' if int(most['n']) > SHOWN else ''})")
