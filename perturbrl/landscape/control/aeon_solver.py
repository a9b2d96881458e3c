"""The program that solves control problems by AEON: JSON on standard input to JSON on standard output.

It runs in a process of its own, because a symbolic computation can only be ended from outside, and imports nothing of
this package, so that it starts in a tenth of a second. ``aeon`` writes its requests and reads its answers.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import biodivine_aeon as aeon

MOST_LISTED = 1000  # sets of the smallest size that are listed; all are counted


def solve(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return for each of the ``problems`` the number of its ``sets`` of each size, and the ``smallest`` ones.

    ``request`` has ``model`` (the text of a .aeon file), ``controllable`` (names, or null for all) and ``problems``,
    each with ``mode``, ``max_size``, ``source`` (values of all genes, or null) and ``target`` (for attractors the
    values of all genes in one of its states; for phenotypes a list of partial states).
    """
    network = aeon.BooleanNetwork.from_aeon(request["model"])
    graph = aeon.AsynchronousPerturbationGraph(network, request["controllable"])
    return [_solve(graph, problem) for problem in request["problems"]]


def _solve(graph: Any, problem: dict[str, Any]) -> dict[str, Any]:
    limit = problem["max_size"]
    if problem["mode"] == "phenotype":
        target = graph.mk_empty_vertices()
        for pattern in problem["target"]:
            target = target.union(graph.mk_subspace_vertices(pattern))
        source = None if problem["source"] is None else graph.mk_subspace_vertices(problem["source"])
        found = aeon.Control.phenotype_permanent(graph, target, "forbidden", limit, False, source)
    else:
        method = getattr(aeon.Control, f"attractor_{problem['mode']}")
        found = method(graph, problem["source"], problem["target"])
    sets: dict[int, int] = {}
    smallest: list[dict[str, bool]] = []
    for size in range(limit + 1):
        part = found.select_by_size(size, False)
        sets[size] = part.cardinality()
        if sets[size] and not smallest:
            for _, perturbation in part:
                values = perturbation.to_named_dict()
                smallest.append({gene: value for gene, value in values.items() if value is not None})
                if len(smallest) == MOST_LISTED:
                    break
    return {"sets": sets, "smallest": smallest}


if __name__ == "__main__":
    json.dump(solve(json.load(sys.stdin)), sys.stdout)
