"""Remake the golden numbers: ``python -m tests.golden.make``, in the checkout (under two minutes).

Without ``--new`` the rounded values must hold, and the bits of this machine are recorded; if this machine had others
before, those of all other machines are dropped with them, because they cannot hold any more. With ``--new`` the values
are recorded anew too.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the tests; before NumPy is loaded

import argparse
import sys
import tempfile
from pathlib import Path

from . import store
from .describe import describe
from .sweep import CASES, KERNELS, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make", description="Remake the golden numbers.")
    parser.add_argument("--new", action="store_true", help="the numbers have changed on purpose: record the values too")
    new = parser.parse_args().new
    name, bits = store.fingerprint(), {}
    for case in CASES:
        for kernels in KERNELS:
            with tempfile.TemporaryDirectory() as folder:
                values, bits[f"{case}-{kernels}"] = describe(run(case, kernels, Path(folder)))
            if new and kernels == "native":
                store.write_values(case, values)
            recorded = store.comparable(store.read_values(case), kernels)
            if moved := store.differences(recorded, store.comparable(values, kernels)):
                print(f"{case}, {kernels} kernels: {len(moved)} values are not as recorded:", *moved[:10], sep="\n  ")
                print("nothing was recorded; if they changed on purpose, use --new and say so in CHANGELOG.md")
                return 1
    content = store.read_digests()
    if new or content.get(name, {}).get("digests", bits) != bits:
        content = {}
    store.write_digests({**content, name: {"machine": store.machine(), "digests": bits}})
    print(f"{store.DIGESTS}: bits of {name}, {len(content.keys() - {name})} other machines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
