"""What the benchmarks share: contenders in processes of their own, measured in turn, and the tables that come of it."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from perturbrl.cores import cores

K = TypeVar("K")
HERE = Path(__file__).resolve().parent
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}
# --isa avx2: code for a processor without AVX-512, on one that may have it; numpy's own loops are left as they are
AVX2 = {
    "PERTURBRL_MARCH": "x86-64-v3",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "XLA_FLAGS": f"{ONE_THREAD['XLA_FLAGS']} --xla_cpu_max_isa=AVX2",
}
ISAS = {"native": {}, "avx2": AVX2}
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
PACKAGES = ("perturbrl", "torch", "numpy", "stable-baselines3", "sb3-contrib", "gymnasium", "jax", "jaxlib")


@dataclass(frozen=True)
class Settings:
    """One training problem, the same for every contender; ``overrides`` go to perturbrl alone."""

    features: int = 64
    cells: int = 10_000
    hidden: tuple[int, ...] = (256, 256)
    rollout: int = 2048
    epochs: int = 10
    minibatch: int = 64
    critic_minibatch: int = 128
    cg_iterations: int = 15
    fisher_fraction: float = 1.0  # share of a rollout in TRPO's Fisher products
    lr: float = 1e-4
    runs: int = 1
    envs: int | None = None  # cells stepped together; None: one, or what the contender is configured for
    overrides: tuple[str, ...] = ()
    device: str = "cpu"  # of perturbrl alone
    isa: str = "native"  # or ``avx2``: every contender limited to it

    @staticmethod
    def read(values: Mapping[str, Any]) -> Settings:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return Settings(**fields)


@dataclass
class Sample:
    """One batch of iterations: environment steps (FLOP for the matrix product), wall and CPU seconds."""

    steps: float
    wall: float
    cpu: float

    @property
    def per_wall(self) -> float:
        return self.steps / self.wall

    @property
    def per_cpu(self) -> float:
        return self.steps / self.cpu


class WorkerFailed(Exception):
    """A contender's process ended; the message holds the end of what it wrote."""


class Worker:
    """A contender in a process of its own: warmed up on starting, then measures one batch whenever asked."""

    def __init__(self, contender: str, settings: Settings, seconds: float, core: int | None) -> None:
        self.contender = contender
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  (closed by close)
        job = {"contender": contender, "settings": asdict(settings), "seconds": seconds, "core": core}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | ONE_THREAD | ISAS[settings.isa] | (NO_GPU if settings.device == "cpu" else {}),
        )
        self.about = self._answer()

    def measure(self) -> Sample:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("measure\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        answer = self._answer()
        self.about["rss"] = answer.pop("rss")
        return Sample(**answer)

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self) -> WorkerFailed:
        code = self._process.wait()
        self._errors.seek(0)
        tail = [line for line in self._errors.read().splitlines() if line.strip()][-3:]
        self.close()
        return WorkerFailed(f"{self.contender}: the process ended with code {code}: {' | '.join(tail)}")


@dataclass
class Result:
    """The samples of one contender, one a round; ``problem`` says why there are none."""

    samples: list[Sample] = field(default_factory=list)
    problem: str = ""
    about: dict[str, Any] = field(default_factory=dict)


def interleaved(contenders: Mapping[str, Settings], rounds: int, seconds: float, core: int | None) -> dict[str, Result]:
    """Measure every contender once a round, each round in the opposite order to the last.

    One contender may stand there with several settings: what follows a colon in a key only tells them apart.
    """
    results = {name: Result() for name in contenders}
    workers: dict[str, Worker] = {}
    try:
        for name, settings in contenders.items():
            say(f"  warming up {name}")
            try:
                workers[name] = Worker(name.partition(":")[0], settings, seconds, core)
            except WorkerFailed as error:
                results[name].problem = str(error)
        for turn in range(rounds):
            say(f"  round {turn + 1} of {rounds}, load {load()}")
            names = list(workers) if turn % 2 == 0 else list(reversed(workers))
            for name in names:
                try:
                    results[name].samples.append(workers[name].measure())
                except WorkerFailed as error:
                    results[name] = Result(problem=str(error))
                    del workers[name]
        for name, worker in workers.items():
            results[name].about = worker.about
    finally:
        for worker in workers.values():
            worker.close()
    return results


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some numbers."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread:
        found = list(values)
        return Spread(statistics.median(found), min(found), max(found))

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 2
        return f"{self.median:,.{digits}f} [{self.low:,.{digits}f}, {self.high:,.{digits}f}]"


def ratios(of: Result, to: Result, attribute: str) -> Spread | None:
    """Ratio of rates round by round: both were measured within seconds of each other."""
    if not of.samples or not to.samples:
        return None
    pairs = zip(of.samples, to.samples, strict=True)
    return Spread.of(getattr(a, attribute) / getattr(b, attribute) for a, b in pairs)


def rates_in_turns(turns: Mapping[K, Callable[[int], int]], rounds: int) -> dict[K, list[float]]:
    """Measure contenders of one process in turn; return the steps a CPU-second of each, one for each round.

    ``turns`` map the number of a turn to the steps that it took; one turn more, the first, warms up.
    """
    rates: dict[K, list[float]] = {name: [] for name in turns}
    for turn in range(rounds + 1):
        for name in list(turns)[:: 1 if turn % 2 else -1]:
            before = time.process_time()
            steps = turns[name](turn)
            rates[name].append(steps / (time.process_time() - before))
    return {name: rate[1:] for name, rate in rates.items()}


def against(rates: Mapping[str, Sequence[float]], base: str) -> dict[str, tuple[Spread, Spread]]:
    """Return the rate of each contender, and its ratio to that of ``base`` in the same round."""
    return {
        name: (Spread.of(rate), Spread.of(a / b for a, b in zip(rate, rates[base], strict=True)))
        for name, rate in rates.items()
    }


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|:--" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def parser(description: str | None) -> argparse.ArgumentParser:
    """Arguments that every benchmark takes, so that ``make bench ARGS=...`` can hand them to all."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean nothing")
    made.add_argument("--out", type=Path, default=Path("outputs/bench"), help="folder for JSON, CSV and figures")
    last = cores()[-1] if hasattr(os, "sched_setaffinity") else -1
    made.add_argument("--core", type=int, default=last, help="the core that contenders run on; -1: any")
    return made


def core_of(args: argparse.Namespace) -> int | None:
    return args.core if args.core >= 0 else None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def load() -> str:
    return " ".join(f"{x:.2f}" for x in os.getloadavg())


def machine() -> dict[str, Any]:
    """Processor, cores, versions and load, now."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": load(),
    }


def describe(about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['processor']}, {about['cores']} cores; Python {about['python']}, {versions}\n"
        f"load average (1, 5, 15 min) before: {about['load_before']}"
    )


def write_json(args: argparse.Namespace, name: str, content: Mapping[str, Any]) -> Path:
    args.out.mkdir(parents=True, exist_ok=True)
    file: Path = args.out / f"{name}.json"
    command = " ".join(["python", *sys.argv])
    text = json.dumps({"command": command, "quick": args.quick, **content}, indent=1)
    file.write_text(text + "\n", encoding="utf-8")
    return file


def quick_note(args: argparse.Namespace) -> str:
    return "QUICK: a smoke run; these figures mean nothing.\n" if args.quick else ""
