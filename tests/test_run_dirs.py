from __future__ import annotations

from pathlib import Path

import pytest

from perturbrl.run_dirs import LONGEST_NAME, Label, Labels, labels

RUN = {"source": "landscape", "data": "rna", "env": "paper", "agent": "trpo", "name": "sweep"}
PLACE = Path("/runs/sweep/landscape-rna,split.seed=1/paper,max_perturb=4,horizon=9/trpo,kl=summed/seed0")


def test_labels_of_an_old_run_are_its_folders() -> None:
    found = labels(RUN, PLACE)
    assert found == Labels(
        "sweep",
        Label("landscape-rna", ("split.seed=1",)),
        Label("paper", ("max_perturb=4", "horizon=9")),
        Label("trpo", ("kl=summed",)),
    )
    assert [str(part) for part in (found.cells, found.task, found.agent)] == list(PLACE.parts[-4:-1])
    assert str(found.cells.without("split.seed")) == "landscape-rna"
    assert found.task.without("split.seed") == found.task


@pytest.mark.parametrize("folder", ["/elsewhere/copy", "/runs/a/b/c/ppo/seed0"])
def test_an_old_run_that_was_moved_is_called_by_its_choices(folder: str) -> None:
    found = labels(RUN, Path(folder))
    assert found == Labels("sweep", Label("landscape-rna"), Label("paper"), Label("trpo"))


def test_labels_of_run_json_hold_wherever_the_folder_lies() -> None:
    recorded = labels(RUN, PLACE)
    assert labels(RUN | {"labels": recorded.to_json()}, Path("/elsewhere/copy")) == recorded


@pytest.mark.parametrize("damaged", [[], {"name": "x"}, {"cells": [], "task": ["paper"], "agent": ["trpo"]}, "text"])
def test_labels_that_are_not_whole_are_not_used(damaged: object) -> None:
    assert labels(RUN | {"labels": damaged}, PLACE) == labels(RUN, PLACE)


def test_a_long_label_is_cut_and_stays_unlike_another() -> None:
    long = [str(Label("paper", (*(f"key{k}=1" for k in range(60)), last))) for last in ("a=1", "a=2")]
    assert long[0] != long[1] and max(len(text.encode()) for text in long) <= LONGEST_NAME
