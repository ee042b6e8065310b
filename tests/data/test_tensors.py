"""Frames, series, arrays and lists as tensors."""

import numpy as np
import pandas as pd
import pytest
import torch

from gramian.data import as_tensors
from gramian.errors import BadArgument, BadData

TABLE = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1.5, -1.0], "c": [True, False, True]})
NUMBERS = torch.tensor([[1.0, 0.5, 1.0], [2.0, 1.5, 0.0], [3.0, -1.0, 1.0]])


@pytest.mark.parametrize(
    "x",
    [TABLE, TABLE.astype("Float64"), TABLE.to_numpy(float), NUMBERS.double().tolist(), list(NUMBERS.double())],
    ids=["frame", "nullable frame", "array", "lists", "list of tensors"],
)
def test_every_container_gives_the_same_numbers(x):
    assert torch.equal(as_tensors(x).x, NUMBERS.double())


def test_tensors_pass_and_arrays_are_copied():
    assert as_tensors(NUMBERS).x is NUMBERS
    array = np.ones((2, 2), np.float32)
    made = as_tensors(array).x
    made[0, 0] = 7
    assert made.dtype == torch.float32
    assert array[0, 0] == 1


@pytest.mark.parametrize(
    ("y", "coded", "classes"),
    [
        (pd.Series(["no", "yes", "no"]), [0, 1, 0], ("no", "yes")),
        (pd.Series(["no", "yes", "no"], dtype="category"), [0, 1, 0], ("no", "yes")),
        (np.array([5, 7, 5]), [0, 1, 0], ("5", "7")),
        ([True, False, True], [1, 0, 1], ("False", "True")),
        (pd.Series([0.5, 1.5, 2.0]), [[0.5], [1.5], [2.0]], ()),
        (np.array([0, 1, 0], object), [0, 1, 0], ("0", "1")),
    ],
)
def test_targets(y, coded, classes):
    made = as_tensors(TABLE, y)
    assert made.y.tolist() == coded
    assert made.classes == classes


def test_a_test_set_is_coded_as_the_training_set():
    train = as_tensors(TABLE, pd.Series(["b", "c", "a"]))
    assert as_tensors(TABLE, pd.Series(["c", "c", "b"]), like=train).y.tolist() == [2, 2, 1]
    with pytest.raises(BadData, match="'d' is none of the 3 training classes"):
        as_tensors(TABLE, pd.Series(["d", "c", "b"]), like=train)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (TABLE.assign(d=["x", "y", "z"]), None, "column 'd' holds .*not numbers"),
        (TABLE.assign(d=pd.Timestamp("2020-01-01")), None, "column 'd' holds datetime64"),
        (TABLE.set_axis(["a", "a", "b"], axis=1), None, "column 'a' is there twice"),
        ([[1.0, 2.0], [3.0]], None, "x is no array"),
        (np.array([["a", "b"]]), None, "not numbers"),
        (3.0, None, "not rows of numbers"),
        (TABLE, pd.Series(["a", None, "b"]), r"(?s)1 of 3 values are missing.*y, row 1 \(counted from 0\)"),
    ],
)
def test_what_is_no_numbers_is_refused_by_name(x, y, said):
    with pytest.raises(BadData, match=said):
        as_tensors(x, y)


def test_a_class_is_no_data_and_a_task_is_one_of_two():
    with pytest.raises(BadArgument, match="x is the class DataFrame"):
        as_tensors(pd.DataFrame)
    with pytest.raises(BadArgument, match=r"task 'regress' .*\n.*\n.*Did you mean 'regression'"):
        as_tensors(TABLE, [1, 2, 3], task="regress")
