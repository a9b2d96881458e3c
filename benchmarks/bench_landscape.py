"""Cell-steps a second of the SDE, and gene updates a second of Boolean networks, beside MaBoSS and a plain Python loop.

A gene that changes at rate 1 in continuous time is one that is drawn among G genes G times a unit of time, and changed
if its rule says so. So a cell followed for a time t counts as G t updates, whatever a simulator does to get there:
MaBoSS skips the draws that change nothing, ``continuous`` those of cells at a fixed point.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from harness import (
    Spread,
    core_of,
    describe,
    load,
    machine,
    markdown,
    parser,
    quick_note,
    rates_in_turns,
    write_json,
)

from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.families import generate
from perturbrl.landscape.kinetics import circuit
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import load as load_network
from perturbrl.landscape.simulate import N_STEPS, simulate

SDE, ASYNC, CONTINUOUS, MABOSS, PYTHON = "SDE", "asynchronous", "continuous time", "MaBoSS", "plain Python"
TARGETS = {SDE: 5e6, ASYNC: 5e7}
"""Cell-steps, and gene updates, a CPU-second at 11 genes."""
TIME = 30.0  # of a cell in continuous time
PASSES = 20
"""Elementwise operations that an asynchronous update takes at least as we do it: 13 hash a word, 2 pick a gene, 1 looks
up its digit, 4 look up the image of the state and take over one digit."""


def sde(network: Network, cells: int) -> Callable[[int], int]:
    clamps = torch.full((1, len(network.genes)), torch.nan)

    def turn(seed: int) -> int:
        simulate(network, clamps, cells, torch.Generator().manual_seed(seed), noise=0.1)
        return cells * N_STEPS

    return turn


def asynchronous(network: Network, cells: int, updates: int) -> Callable[[int], int]:
    dynamics = BooleanDynamics(network)

    def turn(seed: int) -> int:
        generator = torch.Generator().manual_seed(seed)
        state = torch.randint(2, (cells, dynamics.n_genes), generator=generator, dtype=torch.uint8)
        dynamics.run(state, updates, draw_keys(cells, generator))
        return cells * updates

    return turn


def continuous(network: Network, cells: int) -> Callable[[int], int]:
    dynamics = BooleanDynamics(network)
    start = torch.tensor([[int(gene in network.start) for gene in network.genes]], dtype=torch.uint8)

    def turn(seed: int) -> int:
        key = draw_keys(cells, torch.Generator().manual_seed(seed))
        dynamics.continuous(start.repeat(cells, 1), torch.tensor([TIME]), key)
        return int(cells * TIME * dynamics.n_genes)

    return turn


def maboss(network: Network, cells: int) -> Callable[[int], int]:
    import cmaboss

    rules = {
        gene: rule.replace(" and ", " & ").replace(" or ", " | ").replace("not ", "!")
        for gene, rule in network.rules.items()
    }
    nodes = "\n".join(
        f"Node {gene} {{ logic = {rule}; rate_up = @logic ? 1.0 : 0.0; rate_down = @logic ? 0.0 : 1.0; }}"
        for gene, rule in rules.items()
    )
    begin = "".join(f"{gene}.istate = {int(gene in network.start)};\n" for gene in network.genes)

    def turn(seed: int) -> int:
        settings = (
            f"sample_count = {cells}; max_time = {TIME}; time_tick = {TIME}; discrete_time = 0; thread_count = 1;"
        )
        config = f"{begin}{settings} use_physrandgen = FALSE; seed_pseudorandom = {seed + 1};\n"
        cmaboss.MaBoSSSim(network_str=nodes, config_str=config).run()
        return int(cells * TIME * len(rules))

    return turn


def plain_python(network: Network, cells: int, updates: int) -> Callable[[int], int]:
    rules = [compile(rule, gene, "eval") for gene, rule in network.rules.items()]

    def turn(seed: int) -> int:
        draws = random.Random(seed)
        for _ in range(cells):
            state = {gene: draws.random() < 0.5 for gene in network.genes}
            for _ in range(updates):
                g = draws.randrange(len(rules))
                state[network.genes[g]] = eval(rules[g], {}, state)
        return cells * updates

    return turn


def pass_rates() -> tuple[float, float]:
    """Return how many int64 words, and float32 numbers, one operation of torch passes over in a second in the cache."""
    rates = []
    for dtype in (torch.int64, torch.float32):
        x, n = torch.ones(8192, dtype=dtype), 4000
        operation = x.bitwise_xor_ if dtype == torch.int64 else x.mul_
        operation(x)
        start = time.process_time()
        for _ in range(n):
            operation(x)
        rates.append(len(x) * n / (time.process_time() - start))
    return rates[0], rates[1]


def numbers_passed(network: Network) -> int:
    """Return how many numbers the operations of one cell-step of the SDE pass over, at least, as we do it."""
    net, n_genes = circuit(network), len(network.genes)
    sites, nodes = len(net.regulators), sum(len(rule.nodes) for rule in net.rules)
    # Hill functions and their levels; rules; copies, noise and its amplitude; three lerps, addition and clipping.
    return 6 * sites + nodes + n_genes * (3 + 1 + 4 + 3 + 2)


def contenders(quick: bool) -> dict[tuple[str, str], Callable[[int], int]]:
    """Return the turns by simulator and network."""
    few = 20 if quick else 1
    nets = {name: load_network(name) for name in ("myeloid", "haematopoietic", "gonadal")}
    nets |= {f"scale-free {n}": generate("scale_free", n, 0) for n in (60, 200)}
    turns: dict[tuple[str, str], Callable[[int], int]] = {(SDE, "myeloid"): sde(nets["myeloid"], 8000 // few)}
    for name, net in nets.items():
        turns[ASYNC, name] = asynchronous(net, 100_000 // few, 200 if len(net.genes) <= 11 else 60)
    for name in ("myeloid", "haematopoietic"):
        turns[CONTINUOUS, name] = continuous(nets[name], 30_000 // few)
        try:
            turns[MABOSS, name] = maboss(nets[name], 30_000 // few)
        except ImportError:
            print("MaBoSS is not installed (pip install cmaboss)")
        turns[PYTHON, name] = plain_python(nets[name], 100 // few, 1000)
    return turns


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=None, help="default 5, or 1 with --quick")
    args = made.parse_args()
    torch.set_num_threads(1)
    if core_of(args) is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {args.core})
    about = machine()
    print(quick_note(args) + describe(about), flush=True)
    rates = rates_in_turns(contenders(args.quick), args.rounds or (1 if args.quick else 5))
    about["load_after"] = load()
    words, floats = pass_rates()
    limits = {SDE: floats / numbers_passed(load_network("myeloid")), ASYNC: words / PASSES}
    found: dict[str, Any] = {}
    rows = []
    for (simulator, name), values in rates.items():
        rate, base = Spread.of(values), rates.get((PYTHON, name))
        against = Spread.of(a / b for a, b in zip(values, base, strict=True)) if base and simulator != SDE else ""
        share = f"{rate.median / limits[simulator]:.0%}" if simulator in limits else ""
        rows.append([simulator, name, f"{rate.median / 1e6:,.2f}", str(rate), str(against), share])
        found[f"{simulator}, {name}"] = {"per_cpu_second": values, "median": rate.median}
    print(f"load average after: {about['load_after']}; one core, one thread; a CPU-second, median [min, max]\n")
    head = ["simulator", "network", "million", "cell-steps or gene updates", "x plain Python", "of the limit"]
    print(markdown(head, rows))
    print(
        f"\nlimit: as many operations as we make, each as fast as torch passes over numbers in the cache "
        f"({words / 1e9:.2f} thousand million int64 words, {floats / 1e9:.2f} float32 numbers a second)"
    )
    for simulator, target in TARGETS.items():
        rate = found[f"{simulator}, myeloid"]["median"]
        verdict = "met" if rate >= target else "MISSED"
        print(f"{simulator} at 11 genes at least {target:,.0f} a CPU-second: {rate:,.0f}: {verdict}")
    content = {"machine": about, "limits": limits, "results": found}
    print(f"\nwritten: {write_json(args, 'landscape', content)}")


if __name__ == "__main__":
    main()
