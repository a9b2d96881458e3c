"""The lines below a table of the paper's kind: how its numbers were made, and how to read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from perturbrl.metrics_info import PAPER
from perturbrl.report.table import Row, counted
from perturbrl.report.text import DASH, spell

NOTE = (
    "Reproduction of the published computation; not a measure of prediction. Weighted recall equals accuracy, and a "
    "cell is compared with itself after the actions of the policy, so the protocol rewards not moving."
)
NOT_COMPARED = (
    "No published cells to compare with: these are not the study's cells. perturbrl reproduce shows the published "
    "numbers beside any cells."
)
ENCODER, RANDOM = "random_gat", "random projections, of an untrained network"
DO_NOTHING, UNKNOWN = "do_nothing", "not recorded"


def footer(
    runs: pd.DataFrame, agents: Sequence[Row], floors: Sequence[Row], steps: Mapping[str, tuple[int, ...]]
) -> tuple[str, ...]:
    """Return the lines below a table; ``steps`` are those that the finished runs of each agent took."""
    leaks = sorted({leak for run in runs["leaks"] for leak in run})
    spans = "; ".join(f"{row.label} {_span(steps[row.label])}" for row in agents)
    counts = {row.n for row in agents}
    interval = "mean ± half-width of the 95 % t interval over seeds"
    if counts <= {0, 1}:
        interval = "one seed: no interval"
    elif 1 in counts:
        interval += "; where one seed only: no interval"
    seeds = {row.label: sorted({seed for _, seed, _ in row.runs}) for row in agents}
    code = _listed(f"{v} {c[:10]}".strip() for v, c in zip(runs["version"], runs["git_commit"], strict=True))
    n_cells, n_features = (_listed(runs[column].dropna()) for column in ("n_cells", "n_features"))
    lines = [
        f"Data: {_listed(runs['cells'])}, {n_features} features{_encoded(runs)}; protocol {_listed(runs['protocol'])}, "
        f"n = {n_cells} test cells. Task: {_listed(runs['task'])}.",
        f"Evaluation: {_listed(runs['settings'])}.",
        f"Schedule: {_listed(runs['schedule'])}; preset: {_listed(runs['preset'])}. Steps: {spans}.",
        f"Seeds: {counted((label, f'{len(some)} ({_ranges(some)})') for label, some in seeds.items())}; {interval}.",
        f"Leaks: {'; '.join(leaks)}." if leaks else "Leaks: none.",
        NOTE,
        *_doing_nothing(floors),
    ]
    lines += [f"{row.label}: {row.mark}; the row is the mean of the seeds that finished." for row in agents if row.mark]
    if not any(row.label == DO_NOTHING for row in floors):
        lines.append("No do_nothing row: these runs were evaluated without floors.")
    return (*lines, f"Code: perturbrl {code}.") if code != UNKNOWN else tuple(lines)


def _encoded(runs: pd.DataFrame) -> str:
    """Say how features were made, above all where they are no measured quantities."""
    encoders = sorted(set(runs["encoder"]) - {""})
    if not encoders:
        return ""
    return f" (encoder {', '.join(encoders)}{': ' + RANDOM if ENCODER in encoders else ''})"


def _doing_nothing(floors: Sequence[Row]) -> Iterator[str]:
    """Yield in how many of the ten columns doing nothing is perfect, as printed, and its values in the others."""
    for row in floors:
        if row.label == DO_NOTHING and row.n:
            short = {
                info.title: spell(row.cell(metric).mean, info.digits)
                for metric, info in PAPER.items()
                if spell(row.cell(metric).mean, info.digits) != spell(info.perfect, info.digits)
            }
            others = f" ({', '.join(f'{title} {value}' for title, value in short.items())})" if short else ""
            how_many = "all ten" if not short else f"{len(PAPER) - len(short)} of ten"
            yield f"Doing nothing is perfect in {how_many} columns{others}."


def _span(steps: tuple[int, ...]) -> str:
    if not steps:
        return "none finished"
    return f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,} (differ between seeds)"


def _ranges(seeds: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}{DASH}{p[-1]}" for p in parts)


def _listed(values: Iterable[Any]) -> str:
    def spelled(value: Any) -> str:
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return ", ".join(sorted({spelled(v) for v in values if spelled(v)})) or UNKNOWN
