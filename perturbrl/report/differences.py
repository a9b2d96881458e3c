"""Label runs by what differs between them: runs with the same labels were asked to do the same, but for the seed."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from perturbrl.report.recorded import CHECKSUM, Recorded, Settings, group_of, short_key, spelled
from perturbrl.run_dirs import Label, Labels, stages_label

STAGES = "agent.stages"
ALONE = "agent"  # the one group of an agent's settings that only runs of the same agent have in common
IN_COLUMNS = (CHECKSUM, *(f"{group}.name" for group in ("source", "data", "env", "agent", "encoder", "schedule")))
DIGEST = 8  # letters of a hash in a label


def label_runs(
    labels: Sequence[Labels], recorded: Sequence[Recorded], overridden: Collection[str] = ()
) -> tuple[list[Labels], list[Settings]]:
    """Return the labels of runs that stand in one report, and the settings in which each differs from others.

    Parameters
    ----------
    labels
        The labels that the runs recorded: the choices of their commands.
    recorded
        Their settings.
    overridden
        Full keys that commands set; where two settings always have the same value, such as ``schedule.total`` and
        ``agent.total_steps``, the label has the one that was set.
    """
    shown: list[dict[str, Any]] = [{} for _ in labels]
    parts: dict[str, list[Label]] = {}
    for part in ("cells", "task", "agent"):
        settings: list[Settings] = [getattr(one, part) for one in recorded]
        choices = [getattr(one, part).choice for one in labels]

        def compared(k: int, group: str, part: str = part, choices: Sequence[str] = choices) -> Hashable:
            return "" if part == "agent" and group.partition(".")[0] != ALONE else choices[k]

        found = _without_checksums(differing(settings, compared, overridden), choices)
        implied = _implied(found, choices, overridden) if part == ALONE else set()
        texts = [
            tuple(
                sorted(
                    f"{short_key(part, k)}={_value(k, value, found)}" for k, value in one.items() if k not in implied
                )
            )
            for one in found
        ]
        made = [Label(choice, text) for choice, text in zip(choices, texts, strict=True)]
        parts[part] = _unlike(made, [json.dumps(dict(one), sort_keys=True, default=str) for one in settings])
        # files name what own YAML files of a user change too; labels have the names of those files
        anywhere = differing(settings, lambda _k, _group: "", overridden)
        for one, more, all_more in zip(shown, found, anywhere, strict=True):
            one.update({key: value for key, value in all_more.items() if key not in IN_COLUMNS} | more)
    evaluations = differing([one.evaluation for one in recorded], lambda _k, _group: "", overridden)
    for one, more in zip(shown, evaluations, strict=True):
        one.update({f"evaluation.{key}": value for key, value in more.items()})
    pairs = zip(labels, *parts.values(), strict=True)
    # tables have one schedule each
    made_of = [Labels(one.name, cells, task, agent.without("schedule")) for one, cells, task, agent in pairs]
    return made_of, list(shown)


def differing(
    settings: Sequence[Settings], compared: Callable[[int, str], Hashable], overridden: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return of each run the settings in which it differs from a run that it is compared with.

    ``compared(k, group)`` names the runs with which run ``k`` is compared in a group of settings. Settings of two
    choices of a group, such as ``encoder=pca`` and ``encoder=gat``, are not compared, only their names are. The
    settings of a stage are compared in the runs that have it.
    """
    blocks: dict[tuple[Hashable, str, str | None], list[int]] = defaultdict(list)
    groups = dict.fromkeys(group_of(key) for one in settings for key in one)
    for k, one in enumerate(settings):
        for group in groups:
            blocks[compared(k, group), group, None].append(k)
            blocks[compared(k, group), group, _choice(one, group)].append(k)
    out: list[dict[str, Any]] = [{} for _ in settings]
    for (_, group, choice), runs in blocks.items():
        names = (f"{group}.name", f"{group}.kind", group)
        keys = {key for k in runs for key in settings[k] if group_of(key) == group}
        for key in keys:
            those = _with_stage(runs, settings, key)
            if (key in names) == (choice is None) and len({spelled(settings[k].get(key, "")) for k in those}) > 1:
                for k in those:
                    out[k] |= {key: settings[k][key]} if key in settings[k] else {}
    repeated = _repeated(out, settings, overridden)
    return [{key: value for key, value in one.items() if key not in repeated} for one in out]


def _with_stage(runs: Sequence[int], settings: Sequence[Settings], key: str) -> Sequence[int]:
    """Return the runs that have the stage of which ``key`` is a setting; all runs where it is of none.

    The steps of stages are in their list.
    """
    if key.count(".") < 2 or not any(STAGES in settings[k] for k in runs):
        return runs
    above, _, last = key.rpartition(".")
    return (
        []
        if last == "total_steps"
        else [k for k in runs if any(other.startswith(f"{above}.") for other in settings[k])]
    )


def _without_checksums(shown: Sequence[dict[str, Any]], choices: Sequence[str]) -> list[dict[str, Any]]:
    """Leave out checksums of the data where other settings tell the data apart."""
    per_rest: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one, choice in zip(shown, choices, strict=True):
        rest = {key: value for key, value in one.items() if key != CHECKSUM}
        per_rest[choice, json.dumps(rest, sort_keys=True, default=str)].add(str(one.get(CHECKSUM)))
    left_out = {CHECKSUM} if all(len(sums) == 1 for sums in per_rest.values()) else set()
    return [{key: value for key, value in one.items() if key not in left_out} for one in shown]


def _implied(shown: Sequence[dict[str, Any]], choices: Sequence[str], overridden: Collection[str]) -> set[str]:
    """Return the keys of other groups that the choice of an agent implies, such as SAC's ``policy.activation``.

    No command has set it or chosen a file of its group, and all runs of a choice have the same value.
    """
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one, choice in zip(shown, choices, strict=True):
        for key, value in one.items():
            values[key][choice].add(spelled(value))
    return {
        key
        for key, of_choices in values.items()
        if group_of(key).partition(".")[0] != ALONE
        and not {key, group_of(key), f"{group_of(key)}.name"} & set(overridden)
        and all(len(some) == 1 for some in of_choices.values())
    }


def _choice(settings: Settings, group: str) -> str:
    return next((str(settings[key]) for key in (f"{group}.name", f"{group}.kind", group) if key in settings), "")


def _repeated(shown: Sequence[Settings], settings: Sequence[Settings], overridden: Collection[str]) -> set[str]:
    """Return the keys that have the value of another in every run, and so say nothing more."""

    def rank(key: str) -> tuple[bool, bool, int, str]:
        return key not in overridden, not key.startswith("schedule."), key.count("."), key

    repeated = set()
    for key in {key for one in shown for key in one}:
        runs = [k for k, one in enumerate(shown) if key in one]
        first = settings[runs[0]]
        for other, value in first.items():
            same = rank(other) < rank(key) and spelled(value) == spelled(first.get(key))
            if same and all(spelled(settings[k].get(other)) == spelled(settings[k].get(key)) for k in runs):
                repeated.add(key)
                break
    return repeated


def _value(key: str, value: Any, shown: Sequence[Settings]) -> str:
    """Spell a value; a path by its last part, where that tells it from the others."""
    if key == STAGES and isinstance(value, list):
        return stages_label([str(stage) for stage in value])
    if isinstance(value, str) and "/" in value:
        others = {str(one[key]) for one in shown if key in one and one[key] is not None}
        if len({Path(other).name for other in others}) == len(others):
            return Path(value).name
    return spelled(value)[:DIGEST] if key == CHECKSUM else spelled(value)


def _unlike(labels: Sequence[Label], keys: Sequence[str]) -> list[Label]:
    """Add a digest to labels that are spelled alike though the settings behind them are not."""
    behind: dict[str, set[str]] = defaultdict(set)
    for label, key in zip(labels, keys, strict=True):
        behind[str(label)].add(key)
    return [
        label if len(behind[str(label)]) == 1 else _with(label, "settings", hashlib.sha256(key.encode()).hexdigest())
        for label, key in zip(labels, keys, strict=True)
    ]


def _with(label: Label, key: str, value: str) -> Label:
    return replace(label, overrides=(*label.overrides, f"{key}={value[:DIGEST]}"))


def part_repeats(labels: Sequence[Labels], seeds: Sequence[Hashable], folders: Sequence[Path]) -> list[Labels]:
    """Keep apart runs that have the same labels and the same seed: to average them would count a seed twice.

    The sweeps that they belong to are told apart by the folders where they lie.
    """
    keys = list(zip(labels, seeds, strict=True))
    made = list(labels)
    for name in {one.name for (one, _), n in Counter(keys).items() if n > 1}:
        runs = [k for k, one in enumerate(labels) if one.name == name]
        for k, place in zip(runs, _places([folders[k] for k in runs], [keys[k] for k in runs]), strict=True):
            made[k] = replace(labels[k], name=name if place == "." else f"{place}/{name}")
    return made


def _places(folders: Sequence[Path], keys: Sequence[Hashable]) -> list[str]:
    """Return the highest folders that part runs of the same key, relative to the folder above all of them."""
    places = list(folders)
    for level in range(4, -1, -1):
        above = [folder.parents[min(level, len(folder.parents) - 1)] for folder in folders]
        if len(set(zip(keys, above, strict=True))) == len(keys):
            places = above
            break
    common = os.path.commonpath(places)
    return [os.path.relpath(place, common) for place in places]
