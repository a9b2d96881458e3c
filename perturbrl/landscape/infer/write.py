"""The files of an inferred network: rules, edges, and a text."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from pathlib import Path

from perturbrl.files import write_text
from perturbrl.landscape.infer.executed import end_shares
from perturbrl.landscape.infer.inference import Inferred, InferredEdge
from perturbrl.landscape.networks import bnet


def write(inferred: Inferred, out: Path, source: str) -> tuple[Path, Path, Path]:
    """Write the network to ``out`` (.bnet), its edges beside it as .edges.csv, and what to know about it as .txt.

    Parameters
    ----------
    inferred
        The network and its edges.
    out
        The .bnet file.
    source
        Where the cells come from, for the text.

    Returns
    -------
    tuple
        The three files.
    """
    files = out, out.with_suffix(".edges.csv"), out.with_suffix(".txt")
    for file, text in zip(
        files, (bnet.text(inferred.network), edges_csv(inferred.edges), report(inferred, source)), strict=True
    ):
        write_text(file, text)
    return files


def edges_csv(edges: tuple[InferredEdge, ...]) -> str:
    """Return the edges as CSV with a header; the sign is + or -."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(InferredEdge)], lineterminator="\n")
    table.writeheader()
    for edge in edges:
        numbers = {"bits": f"{edge.bits:.6g}", "p": f"{edge.p:.3g}", "sign": "+" if edge.sign > 0 else "-"}
        table.writerow({**asdict(edge), **numbers})
    return text.getvalue()


def report(inferred: Inferred, source: str) -> str:
    """Return what to know about an inferred network: its rules, how they agree with the data, what was left out."""
    network, (followed, n_steps) = inferred.network, inferred.steps
    width = max(map(len, network.genes))
    lines = [f"Network inferred from {source}", "", "Rules (support: states at which the rule needs the edge)"]
    for r, (gene, rule) in zip(inferred.gene_rules, network.rules.items(), strict=True):
        support = ", ".join(
            f"{network.genes[r.candidates[e].regulator]} {n}" for e, n in zip(r.rule.edges, r.support, strict=True)
        )
        lines.append(f"  {gene:<{width}}  {rule}{f'   [{support}]' if support else ''}")
    lines += ["", f"Start: {', '.join(sorted(network.start)) or 'all genes off'}"]
    for branch, (fate, (on, off)) in zip(inferred.branches, network.fates.items(), strict=True):
        lines.append(f"Fate {fate} (branch {branch.name}, {len(branch.states)} states): on {', '.join(on) or 'none'}")
        lines.append(f"  off {', '.join(off) or 'none'}")
    lines += ["", f"Steps of the data that the network can take: {followed} of {n_steps}"]
    lines.append(f"Ends that are steady in the network: {inferred.steady_ends} of {len(inferred.branches)}")
    shares = end_shares(inferred)
    reached = [f"{fate} {share:.2f}" for fate, share in zip(network.fates, shares, strict=True)]
    lines += [
        f"Where runs of the network from the start end: {', '.join(reached)}, elsewhere {1 - sum(shares):.2f}",
        "",
    ]
    return "\n".join([*lines, "Left out, and doubts", *(f"  {note}" for note in inferred.notes)]) + "\n"
