"""Training throughput of PPO, TRPO, A2C and SAC, ours and peers', in turn on one core: ``bench_agents.py --help``.

Whole loop (collect and update), the same samples, minibatches, epochs and networks. Every contender is a process of its
own that warms up first (compilation included) and then measures one batch of iterations a round; ratios are taken
round by round, so that a change of the machine's load meets both sides.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import arithmetic
from contenders import CONTENDERS, NOT_BY_DEFAULT
from harness import (
    ISAS,
    Result,
    Settings,
    Spread,
    core_of,
    describe,
    interleaved,
    load,
    machine,
    markdown,
    parser,
    quick_note,
    ratios,
    say,
    write_json,
)

BASE = {"ppo": "ppo-sb3", "trpo": "trpo-sb3", "a2c": "a2c-sb3-16", "sac": "sac-sb3"}
POPULATION, TABLE_RUNS, TABLE_STEPS = 5, 45, 1_001_472
# (contender, against, at least); against JAX a CPU-second, and PPO by what the processor, or --isa, allows
TARGETS = (
    *(("ppo", "ppo-sb3", 5.0), ("ppo-population", "ppo-sb3", 6.0)),
    *(("trpo", "trpo-sb3", 5.5), ("trpo-population", "trpo-sb3", 6.5), ("trpo", "trpo-jax", 1.08)),
    *(("a2c", "a2c-sb3-16", 1.0), ("a2c-1", "a2c-sb3", 1.0)),  # as many gradient steps on both sides
    *(("sac", "sac-sb3", 5.0), ("sac-population", "sac-sb3", 5.0), ("sac-8", "sac-sb3-8", 5.0)),
)
PPO_AGAINST_JAX = {"avx2": 1.25, "native": 1.15}


def arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=None, help="default 7, or 2 with --quick")
    made.add_argument("--seconds", type=float, default=None, help="of one batch, about; default 4, or 0.2 with --quick")
    made.add_argument("--only", nargs="+", choices=[c for c in CONTENDERS if c != "gemm"], help="some contenders alone")
    made.add_argument("--features", type=int, default=64, help="G")
    made.add_argument("--fisher-fraction", type=float, default=1.0, help="share of a rollout in TRPO's Fisher products")
    made.add_argument("--population", type=int, default=POPULATION, help="S of the population rows")
    made.add_argument("--isa", choices=ISAS, default="native", help="avx2: limit every contender to AVX2 code")
    made.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for perturbrl's rows")
    return made.parse_args()


def settings(args: argparse.Namespace, name: str) -> Settings:
    s = Settings(features=args.features, fisher_fraction=args.fisher_fraction, isa=args.isa)
    if args.quick:
        s = dataclasses.replace(s, rollout=256, cells=1000)
    if name in CONTENDERS and CONTENDERS[name].own:
        s = dataclasses.replace(s, overrides=tuple(args.set), runs=args.population if "population" in name else 1)
    return s


def label(name: str, s: Settings, result: Result) -> str:
    text = CONTENDERS[name].label.format(runs=s.runs)
    return f"**{text}** (B = {result.about['n_envs']})" if "n_envs" in result.about else text


def table(algorithm: str, chosen: dict[str, Settings], results: dict[str, Result], rate: float | None) -> str:
    rows = []
    for name, s in chosen.items():
        if CONTENDERS[name].algorithm != algorithm:
            continue
        result, base = results[name], results.get(BASE[algorithm], Result())
        text = label(name, s, result)
        if result.problem:
            rows.append([text, result.problem, *[""] * 4])
            continue
        wall, cpu = (Spread.of(getattr(x, a) for x in result.samples) for a in ("per_wall", "per_cpu"))
        against = [str(r or "no base") for r in (ratios(result, base, "per_wall"), ratios(result, base, "per_cpu"))]
        limit = "" if rate is None else f"{cpu.median * arithmetic.PER_STEP[algorithm](s) / rate:.0%}"
        rows.append([text, str(wall), str(cpu), *against, limit])
        if s.runs > 1:
            each = Spread.of(x.per_wall / s.runs for x in result.samples)
            rows.append([f"&nbsp;&nbsp;pace of each of its {s.runs} runs", str(each), *([""] * 4)])
    head = [algorithm.upper(), "steps/s", "steps/CPU-s", "x base", "x base, CPU-s", "of the arithmetic limit"]
    return markdown(head, rows)


def limits(results: dict[str, Result], s: Settings) -> tuple[str, float | None]:
    """The formula stands in ``arithmetic.py``."""
    if not results["gemm"].samples:
        return f"matrix product: {results['gemm'].problem}", None
    flops = Spread.of(x.per_cpu for x in results["gemm"].samples)
    lines = [f"float32 matrix product, one core, this run: {Spread.of(x.per_cpu / 1e9 for x in results['gemm'].samples)} GFLOP/CPU-s"]  # fmt: skip  # noqa: E501
    for algorithm, count in arithmetic.PER_STEP.items():
        each = count(s)
        text = f"{algorithm.upper()}: {each / 1e6:.1f} MFLOP a step, so at most {flops.median / each:,.0f} steps/s"
        lines.append(text + " by arithmetic alone")
    return "\n".join(lines), flops.median


def verdicts(results: dict[str, Result], isa: str) -> list[str]:
    out = []
    for name, against, least in (*TARGETS, ("ppo", "ppo-jax", PPO_AGAINST_JAX[isa])):
        if name not in results or against not in results:
            continue
        wall, cpu = (ratios(results[name], results[against], a) for a in ("per_wall", "per_cpu"))
        if wall is None or cpu is None:
            out.append(f"{name} against {against}: not measured")
            continue
        met = "met" if (cpu if "jax" in against else wall).median >= least else "MISSED"
        out.append(f"{name} at least {least:g} x {against}: {wall.median:.2f} x wall, {cpu.median:.2f} x CPU: {met}")
    return out


def whole_table(results: dict[str, Result]) -> str:
    """What 45 runs would take; computed from the rates above, evaluation and start-up left out."""
    ppo, trpo = (results.get(f"{a}-population", Result()).samples for a in ("ppo", "trpo"))
    if not ppo or not trpo:
        return ""
    rate = {"ppo": Spread.of(x.per_cpu for x in ppo).median, "trpo": Spread.of(x.per_cpu for x in trpo).median}
    third = TABLE_RUNS / 3 * TABLE_STEPS
    # a two-stage run of equal length is half TRPO, half PPO
    seconds = third * (1 / rate["ppo"] + 1 / rate["trpo"] + 0.5 / rate["ppo"] + 0.5 / rate["trpo"])
    return (
        f"computed, not measured: {TABLE_RUNS} runs of {TABLE_STEPS:,} steps (PPO, TRPO, half and half) "
        f"on 2 cores: {seconds / 2 / 60:.0f} min"
    )


def main() -> None:
    args = arguments()
    rounds = args.rounds or (2 if args.quick else 7)
    seconds = args.seconds or (0.2 if args.quick else 4.0)
    about = machine()
    print(quick_note(args) + describe(about), flush=True)
    default = [n for n, c in CONTENDERS.items() if c.algorithm in BASE and n not in NOT_BY_DEFAULT]
    chosen = {name: settings(args, name) for name in args.only or default}
    missing = {n: CONTENDERS[n].missing for n in chosen if CONTENDERS[n].missing}
    measured = {"gemm": Settings(isa=args.isa), **{n: s for n, s in chosen.items() if n not in missing}}
    results = interleaved(measured, rounds, seconds, core_of(args))
    for name, modules in missing.items():
        results[name] = Result(problem=f"not installed: {', '.join(modules)}; pip install -e '.[peers]'")
        say(f"{name}: {results[name].problem}")
    about["load_after"] = load()
    lines, rate = limits(results, settings(args, "gemm"))
    print(f"load average after: {about['load_after']}\n{lines}")
    core = f"core {args.core}" if args.core >= 0 else "any core"
    print(f"{rounds} rounds of about {seconds:g} s, one thread each, {core}; median [min, max]")
    for algorithm, base in BASE.items():
        if any(CONTENDERS[n].algorithm == algorithm for n in chosen):
            print(f"\nbase: {CONTENDERS[base].label}\n")
            print(table(algorithm, chosen, results, rate))
    print("\n" + "\n".join([*verdicts(results, args.isa), whole_table(results)]))
    content: dict[str, Any] = {
        "machine": about,
        "rounds": rounds,
        "settings": {n: dataclasses.asdict(s) for n, s in chosen.items()},
        "results": {n: dataclasses.asdict(r) for n, r in results.items()},
    }
    print(f"\nwritten: {write_json(args, 'agents', content)}")


if __name__ == "__main__":
    main()
