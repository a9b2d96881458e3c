"""Environment steps a second, the drawing of the uniforms included: ``python benchmarks/bench_env.py --help``."""

from __future__ import annotations

import dataclasses

from contenders import CONTENDERS
from harness import (
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
    write_json,
)

TARGET = 1e6  # steps a second on one core at G = 64
NUMPY = "env-numpy"


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--env", nargs="+", default=["paper", "paper_discrete"])
    made.add_argument("--runs", type=int, nargs="+", default=[1, 5], help="S")
    made.add_argument("--envs", type=int, nargs="+", default=[1, 32, 64, 256, 1024], help="B")
    made.add_argument("--features", type=int, default=64, help="G")
    made.add_argument("--device", default="cpu", help="of perturbrl's rows: cpu or cuda")
    made.add_argument("--rounds", type=int, default=None, help="default 5, or 2 with --quick")
    made.add_argument("--seconds", type=float, default=None, help="of one batch, about; default 1, or 0.1 with --quick")
    args = made.parse_args()
    rounds, seconds = args.rounds or (2 if args.quick else 5), args.seconds or (0.1 if args.quick else 1.0)
    runs, envs = (args.runs[:1], args.envs[:3]) if args.quick else (args.runs, args.envs)
    about = machine()
    print(quick_note(args) + describe(about), flush=True)

    base = Settings(features=args.features)
    chosen = {NUMPY: base} | {
        f"env:{name}, S = {s}, B = {b}": dataclasses.replace(
            base, runs=s, envs=b, device=args.device, overrides=(f"env={name}",)
        )
        for name in args.env
        for s in runs
        for b in envs
    }
    results = interleaved(chosen, rounds, seconds, core_of(args))
    about["load_after"] = load()
    print(f"load average after: {about['load_after']}")
    print(
        f"G = {args.features}, {args.device}, one thread; {rounds} rounds of about {seconds:g} s; median [min, max]\n"
    )
    rows, best = [], 0.0
    for name, result in results.items():
        text = CONTENDERS[NUMPY].label if name == NUMPY else name.partition(":")[2]
        if result.problem:
            rows.append([text, result.problem, "", ""])
            continue
        wall, cpu = (Spread.of(getattr(x, a) for x in result.samples) for a in ("per_wall", "per_cpu"))
        best = max(best, wall.median) if "paper," in text else best
        rows.append([text, str(wall), str(cpu), str(ratios(result, results[NUMPY], "per_wall") or "no base")])
    print(markdown(["task", "steps/s", "steps/CPU-s", "x numpy cell"], rows))
    if args.features == 64 and args.device == "cpu":
        verdict = "met" if best >= TARGET else "MISSED"
        print(f"\npaper at least {TARGET:,.0f} steps/s on one core at some B: best {best:,.0f}: {verdict}")
    content = {"machine": about, "results": {n: dataclasses.asdict(r) for n, r in results.items()}}
    print(f"\nwritten: {write_json(args, 'env', content)}")


if __name__ == "__main__":
    main()
