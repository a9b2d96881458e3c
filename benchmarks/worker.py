"""One contender in a process of its own; started by ``harness.Worker``, told what to do by lines on its input."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    # what libraries print must not get between the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.argv[1])
    if job["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job["core"]})  # before any library counts the cores

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    from contenders import CONTENDERS
    from harness import Settings

    about: dict[str, Any] = {}
    iterate = CONTENDERS[job["contender"]].build(Settings.read(job["settings"]), about)
    iterate()  # compiles, allocates
    start = time.perf_counter()
    iterate()
    count = max(1, round(job["seconds"] / (time.perf_counter() - start)))
    answer(about | {"iterations": count, "rss": resident_bytes()})
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        steps = sum(iterate() for _ in range(count))
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        answer({"steps": steps, **took, "rss": resident_bytes()})


if __name__ == "__main__":
    main()
