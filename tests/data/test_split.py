from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from perturbrl import registry
from perturbrl.data.split import SplitConfig, split_cells
from perturbrl.errors import UserError
from tests.data.made_cells import configs, made_cells


def cells(n):
    return made_cells(n=n, modalities=("rna",), genes=2)


def test_the_default_is_the_released_split_with_rows_sorted():
    _, _, split = configs()
    train, test = split_cells(cells(103), split)
    released_train, released_test = train_test_split(np.arange(103), test_size=0.2, random_state=42)
    np.testing.assert_array_equal(train, np.sort(released_train))
    np.testing.assert_array_equal(test, np.sort(released_test))
    assert train.dtype == test.dtype == np.int64


@given(n=st.integers(3, 60), fraction=st.floats(0.05, 0.6), seed=st.integers(0, 2**32 - 1))
def test_a_split_is_a_sorted_partition_of_the_cells(n, fraction, seed):
    raw = cells(n)
    train, test = split_cells(raw, SplitConfig("cells", fraction, seed))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(n))
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    assert len(test) == int(np.ceil(fraction * n))


def test_the_seed_draws_the_split():
    raw = cells(50)
    first, again, other = (split_cells(raw, SplitConfig("cells", 0.2, s))[1] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("cell", 0.2, 0), "split.kind: 'cell' is not known (did you mean 'cells'?); choose additive"),
        (("cells", 0.0, 0), "split.test_fraction: must be above 0 and below 1, got 0.0"),
        (("cells", 1.0, 0), "split.test_fraction: must be above 0 and below 1, got 1.0"),
        (("cells", 0.95, 0), "0.95 of the 4 cells of made leaves 0 to train on and 4 to test on"),
        (("cells", 0.2, -1), "split.seed: must be at least 0 and at most 4294967295, got -1"),
    ],
)
def test_impossible_splits_are_refused(values, said):
    kind, fraction, seed = values
    with pytest.raises(UserError) as error:
        config = registry.splits.bind({"kind": kind, "test_fraction": fraction, "seed": seed})
        split_cells(cells(4), config)
    assert said in str(error.value)


def test_one_cell_cannot_be_split():
    with pytest.raises(UserError, match="leaves 0 to train on and 1 to test on"):
        split_cells(cells(1), SplitConfig("cells", 0.2, 0))
