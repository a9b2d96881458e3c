"""CPU seconds and peak memory of exact and exhaustive control, by the number of genes: ``bench_control.py --help``.

Exact: value iteration over all 2^G states of a generated Boolean network, 10 decisions of up to 3 genes that each run
to an attractor, on one thread. Exhaustive: every set of up to 3 of the 11 genes of the myeloid network, either way, in
its Hill SDE. Each size runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import NO_GPU, ONE_THREAD, describe, load, machine, markdown, parser, quick_note, write_json

GENES = (11, 12, 15, 18, 20)
LIMIT_GB = 2.0  # at 20 genes
GB = 1e9


def exact(n_genes: int, decisions: int) -> dict[str, Any]:
    import torch

    from perturbrl.landscape import families
    from perturbrl.landscape.control.exact import Solver
    from perturbrl.landscape.fate_task import Fate, FateTask
    from perturbrl.landscape.state_graph import absorption, bottoms, state_graph, unpack

    network = families.generate("scale_free", n_genes, seed=0)
    seconds = {}
    began = time.process_time()
    graph = state_graph(network)
    parts = bottoms(graph)
    seconds["attractors"] = time.process_time() - began
    began = time.process_time()
    absorption(graph, parts)
    seconds["absorption"] = time.process_time() - began
    first = torch.from_numpy(unpack(parts[0][:1], n_genes))
    last = Fate("last", torch.from_numpy(unpack(parts[-1][:1], n_genes)).to(torch.int8))
    task = FateTask(network, first, last, n_updates=1000, max_perturb=3, n_decisions=decisions, cost=0.01)
    began = time.process_time()
    value = Solver(task).optimum().mean
    seconds["value iteration"] = time.process_time() - began
    return {"attractors": len(parts), "seconds": seconds, "value": value, "gigabytes": peak()}


def sets(n_perturb: int) -> dict[str, Any]:
    import torch

    from perturbrl.landscape.control.exhaustive import exhaustive
    from perturbrl.landscape.fate_task import Fate, FateTask
    from perturbrl.landscape.networks import load as load_network

    network = load_network("myeloid")
    on, _ = network.fates["erythrocyte"]
    start = torch.tensor([[int(gene in (*on, "Fog1", "Scl")) for gene in network.genes]], dtype=torch.uint8)
    task = FateTask(
        network,
        start,
        Fate.named(network, "monocyte"),
        dynamics="hill",
        moves="set",
        duration="held",
        hold_updates=40,
        noise=0.1,
        between="updates",
        n_updates=240,
        max_perturb=n_perturb,
        n_decisions=1,
        cost=0.01,
    )
    began = time.process_time()
    ranking = exhaustive(task)
    seconds = {"exhaustive": time.process_time() - began}
    return {"plans": ranking.n_possible, "best": ranking.sentence, "value": ranking.value, "seconds": seconds} | {
        "gigabytes": peak()
    }


def peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB


def child(kind: str, size: int, decisions: int) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), "--child", kind, str(size), str(decisions)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD, **NO_GPU})
    if done.returncode:
        return {"problem": (done.stderr.strip().splitlines() or ["ended"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--genes", type=int, nargs="+", default=list(GENES))
    args = made.parse_args()
    genes, decisions = ([8, 11], 3) if args.quick else (args.genes, 10)
    about = machine()
    print(quick_note(args) + describe(about), flush=True)
    results = {f"exact, {n} genes": child("exact", n, decisions) for n in genes}
    most = 1 if args.quick else 3
    results[f"exhaustive, 11 genes, up to {most}"] = child("sets", most, 1)
    about["load_after"] = load()
    rows = []
    for name, found in results.items():
        if "problem" in found:
            rows.append([name, found["problem"], "", ""])
            continue
        seconds = ", ".join(f"{part} {value:.2f}" for part, value in found["seconds"].items())
        size = f"{found['attractors']} attractors" if "attractors" in found else f"{found['plans']} plans"
        rows.append([name, size, seconds, f"{found['gigabytes']:.2f}"])
    print(markdown(["", "size", "CPU seconds", "peak GB"], rows))
    print(f"Limit at 20 genes: {LIMIT_GB:g} GB. Load average after: {about['load_after']}")
    print(write_json(args, "control", {"machine": about, "results": results}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        kind, size, n = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        print(json.dumps(exact(size, n) if kind == "exact" else sets(size)))
    else:
        main()
