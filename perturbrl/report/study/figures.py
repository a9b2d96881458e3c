"""Figures of a study: arms on each network, pairs of arms, sharpness, slices and barriers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbrl.report import layout, style
from perturbrl.report.layout import Drawn
from perturbrl.report.study.paired import Tested, means
from perturbrl.report.study.results import Results

MOST_PAIRS = 9  # panels that a page can show
TASKS_AS_LINES = 3  # from so many tasks whose names end in a number their order is an axis
NUMBER = re.compile(r"(\d+)$")
NETWORKS_DRAWN = "Dots: networks (means over seeds). Line: mean over networks with its 95 % bootstrap interval."


def draw(results: Results, tests: Sequence[Tested], folder: Path) -> list[style.Picture]:
    """Draw what there are numbers for into ``folder`` as ``study-<name>.png`` and ``.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [str(task) for task in results.about["tasks"]]
    makers: dict[str, Any] = {"pairs": partial(_pairs, results, tests)}
    metric = next(iter(results.metrics))
    if len(tasks) >= TASKS_AS_LINES and all(NUMBER.search(task) for task in tasks):
        makers["tasks"] = partial(_over_tasks, results, tasks)
        tasks = list(dict.fromkeys(one.task for one in tests if one.n))[
            :TASKS_AS_LINES
        ]  # of which something is claimed
    makers |= {f"arms-{task}": partial(_arms, results, task, metric) for task in tasks}
    return style.draw(makers, folder / "study")


def draw_sharpness(results: Results, report: Path) -> list[style.Picture]:
    """Draw the measurements that stand beside the report as CSV files."""
    found = {
        name: pd.read_csv(file)
        for name in ("sharpness", "slices", "barriers")
        if (file := report / f"{name}.csv").exists()
    }
    makers: dict[str, Any] = {}
    if "sharpness" in found:
        makers["sharpness"] = partial(_sharpness, results, found["sharpness"])
    if "slices" in found:
        makers["slices"] = partial(_slices, results, found["slices"])
    if "barriers" in found:
        makers["barriers"] = partial(_barriers, found["barriers"])
    return style.draw(makers, report / "figures" / "study")


def _looks(results: Results) -> dict[str, dict[str, Any]]:
    return dict(zip(results.arms, style.styles([(arm, arm) for arm in results.arms]), strict=True))


def _families(results: Results) -> dict[str, dict[str, Any]]:
    names = list(dict.fromkeys(results.about["networks"]["test"].values()))
    return dict(zip(names, style.styles([(f"family {name}", name) for name in names]), strict=True))


def _pairs(results: Results, tests: Sequence[Tested]) -> Drawn | None:
    """Draw each network as a dot: one arm's mean over seeds against the other's."""
    shown = [one for one in tests if one.n and one.declared][:MOST_PAIRS]
    if not shown:
        return None
    families = _families(results)
    handles = [layout.key(name, color=look["color"], marker=look["marker"], ls="") for name, look in families.items()]
    figure, axes = layout.tiles(len(shown), 3, (3.1, 3.1), handles, left=0.85)
    for (ax, _, _), one in zip(axes, shown, strict=True):
        table = results.by_network(one.task, one.metric)[[one.second, one.first]].dropna()
        for name, look in families.items():
            some = table[[results.family(str(network)) == name for network in table.index]]
            ax.plot(
                some[one.second], some[one.first], ls="", marker=look["marker"], color=look["color"], ms=6, alpha=0.8
            )
        low, high = float(table.min().min()), float(table.max().max())
        room = 0.06 * (high - low) or 0.5
        ends = [low - room, high + room]
        ax.plot(ends, ends, color=style.MUTED, lw=1.2, zorder=1)
        ax.set_xlim(*ends)
        ax.set_ylim(*ends)
        below = results.metrics[one.metric] == "smaller"
        ax.text(
            *((0.97, 0.05) if below else (0.03, 0.95)), f"{layout.short(one.first)} better",
            transform=ax.transAxes, ha="right" if below else "left", va="bottom" if below else "top",
            color=style.MUTED, fontsize=9,
        )  # fmt: skip
        layout.name(ax, f"{one.metric}, {one.task}", x=layout.short(one.second), y=layout.short(one.first))
    caption = "A dot is a network, at its means over seeds; on the line both arms are equal."
    if len(tests) > len(shown):
        caption += f" The first {len(shown)} of {len(tests)} comparisons; claims.csv has all."
    return Drawn(figure, "Pairs of arms, network by network", caption)


def _arms(results: Results, task: str, metric: str) -> Drawn | None:
    """Draw every network as a dot beside its arm, and the mean of the arm with its interval."""
    table, spans = results.by_network(task, metric), means(results, task, metric)
    arms = [arm for arm in results.arms if arm in spans]
    if not arms:
        return None
    families, rng = _families(results), np.random.default_rng(0)
    handles = [layout.key(name, color=look["color"], marker=look["marker"], ls="") for name, look in families.items()]
    longest = max(len(layout.short(arm)) for arm in arms) * layout.LETTER
    figure, (ax,) = layout.panels(1, 1, (7.5, 0.34 * len(arms) + 0.3), handles, left=0.3 + longest)
    for y, arm in enumerate(arms):
        values = table[arm].dropna()
        for name, look in families.items():
            some = values[[results.family(str(network)) == name for network in values.index]]
            places = y + rng.uniform(-0.22, 0.22, len(some))
            ax.plot(some, places, ls="", marker=look["marker"], color=look["color"], ms=4.5, alpha=0.55)
        one = spans[arm]
        ax.plot([one.low, one.high], [y, y], color=style.INK, lw=2.2, zorder=4)
        ax.plot([one.mean], [y], marker="|", ms=13, mew=2.2, color=style.INK, zorder=5)
    ax.set_yticks(range(len(arms)), [layout.short(arm) for arm in arms])
    ax.set_ylim(len(arms) - 0.5, -0.5)
    layout.name(ax, x=f"{metric} ({results.metrics[metric]} is better)")
    return Drawn(figure, f"{metric} of every arm, {task}", NETWORKS_DRAWN)


def _over_tasks(results: Results, tasks: Sequence[str]) -> Drawn | None:
    """Draw every metric against the number in the names of tasks."""
    looks, metrics = _looks(results), list(results.metrics)
    spans = {(metric, task): means(results, task, metric) for metric in metrics for task in tasks}
    arms = [arm for arm in results.arms if any(arm in one for one in spans.values())]
    handles = [
        layout.key(a, color=looks[a]["color"], ls=looks[a]["dash"], marker=looks[a]["marker"], lw=2) for a in arms
    ]
    figure, axes = layout.tiles(len(metrics), 2, (4.6, 3.3), handles, left=0.8)
    numbers = {task: float(NUMBER.search(task)[1]) for task in tasks}  # type: ignore[index]
    for (ax, _, _), metric in zip(axes, metrics, strict=True):
        for k, arm in enumerate(arms):
            there = [task for task in tasks if arm in spans[metric, task]]
            shift = 0.5 * (k / max(1, len(arms) - 1) - 0.5)  # bars side by side
            xs, found = [numbers[task] + shift for task in there], [spans[metric, task][arm] for task in there]
            means_ = np.array([one.mean for one in found])
            ends = np.abs(np.array([[one.low, one.high] for one in found]).reshape(-1, 2).T - means_)
            look = {"color": looks[arm]["color"], "ls": looks[arm]["dash"], "marker": looks[arm]["marker"]}
            ax.errorbar(xs, means_, yerr=np.nan_to_num(ends), ms=5, lw=1.6, elinewidth=1, **look)
        layout.ticks_at(ax, list(numbers.values()), log=False)
        name = NUMBER.sub("", tasks[0]).strip("_- ") or "task"
        layout.name(ax, f"{metric} ({results.metrics[metric]} is better)", x=name)
    caption = "Means over networks; bars: 95 % bootstrap intervals, networks drawn anew. Arms are shifted sideways."
    return Drawn(figure, "Scores against the number that tasks vary", caption)


def _sharpness(results: Results, sharp: pd.DataFrame) -> Drawn | None:
    """Draw the largest eigenvalue at each solution, network by network."""
    arms = [arm for arm in results.arms if arm in set(sharp["arm"])]
    sharp = sharp[sharp["largest"] > 0]
    if sharp.empty:
        return None
    looks, longest = _looks(results), max(len(layout.short(arm)) for arm in arms) * layout.LETTER
    figure, (ax,) = layout.panels(1, 1, (7.5, 0.34 * len(arms) + 0.3), [], left=0.3 + longest)
    for y, arm in enumerate(arms):
        values = sharp[sharp["arm"] == arm].groupby("network")["largest"].mean()
        ax.plot(values, [y] * len(values), ls="", marker="o", ms=5, alpha=0.55, color=looks[arm]["color"])
        if len(values):
            ax.plot([values.median()], [y], marker="|", ms=13, mew=2.2, color=style.INK)
    ax.set_yticks(range(len(arms)), [layout.short(arm) for arm in arms])
    ax.set_ylim(len(arms) - 0.5, -0.5)
    layout.plain_log_axis(ax)
    layout.name(ax, x="largest eigenvalue of the Hessian of the policy loss")
    return Drawn(figure, "Sharpness at the solutions", "Dots: networks (means over seeds); bar: their median.")


def _slices(results: Results, slices: pd.DataFrame) -> Drawn | None:
    """Draw the mean slice of each arm, its loss relative to that at the solution."""
    looks = _looks(results)
    arms = [arm for arm in results.arms if arm in set(slices["arm"])]
    handles = [layout.key(arm, color=looks[arm]["color"], ls=looks[arm]["dash"], lw=2) for arm in arms]
    figure, (ax,) = layout.panels(1, 1, (6.5, 3.4), handles, left=0.85)
    runs = ["task", "network", "arm", "seed"]
    middle = slices[slices["place"].abs() < 1e-9].set_index(runs)["loss"]
    relative = slices.assign(loss=slices["loss"] - slices.set_index(runs).index.map(middle))
    for arm in arms:
        mean = relative[relative["arm"] == arm].groupby("place")["loss"].mean()
        ax.plot(mean.index, mean, color=looks[arm]["color"], ls=looks[arm]["dash"], lw=2)
    layout.name(ax, x="place along a filter-normalised random direction", y="rise of the policy loss")
    caption = "Means over networks and seeds; 1 is as far as the weights of each unit are long (Li et al. 2018)."
    return Drawn(figure, "Slices through the policy loss", caption)


def _barriers(barriers: pd.DataFrame) -> Drawn | None:
    """Draw the mean score along the line between two solutions of the same seed."""
    pairs = list(dict.fromkeys(zip(barriers["task"], barriers["first"], barriers["second"], strict=True)))[:MOST_PAIRS]
    figure, axes = layout.tiles(len(pairs), 3, (3.1, 2.4), [], left=0.85)
    for (ax, _, _), (task, first, second) in zip(axes, pairs, strict=True):
        of = (barriers["task"] == task) & (barriers["first"] == first) & (barriers["second"] == second)
        for _, one in barriers[of].groupby(["network", "seed"]):
            ax.plot(one["t"], one["score"], color=style.PALETTE[0], lw=0.9, alpha=0.5)
        mean = barriers[of].groupby("t")["score"].mean()
        ax.plot(mean.index, mean, color=style.INK, lw=2.2)
        ax.set_xticks([0, 1], [layout.short(first), layout.short(second)])
        layout.name(ax, str(task), y="score")
    caption = "Thin: networks and seeds; thick: mean. Both ends were trained from the same initial networks."
    return Drawn(figure, "Scores on the line between two solutions", caption)
