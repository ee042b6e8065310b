import pytest
import torch

from gramian.data import Dataset, one_hot
from gramian.errors import BadData


def toy(classes=("a", "b", "c")):
    y = torch.tensor([0, 1, 2, 1]) if classes else torch.randn(4, 2)
    return Dataset("toy", torch.randn(4, 5), y, torch.randn(0, 5), y[:0], classes, torch.arange(4), "by hand")


def test_centered_one_hot_rows_sum_to_zero_and_differ_by_one():
    targets = toy().targets
    torch.testing.assert_close(targets.sum(1), torch.zeros(4))
    torch.testing.assert_close(targets.max(1).values - targets.min(1).values, torch.ones(4))
    assert targets.argmax(1).tolist() == [0, 1, 2, 1]
    assert toy().targets_test.shape == (0, 3)


def test_regression_targets_are_the_labels():
    data = toy(classes=())
    assert data.n_outputs == 2
    assert data.targets.equal(data.y)


def test_it_prints_what_it_is():
    assert repr(toy()) == "Dataset('toy': 4 training and 0 test rows of shape (5,), 3 classes, float64, from by hand)"


def test_one_hot_names_the_row_of_a_label_out_of_range():
    with pytest.raises(
        BadData, match=r"(?s)label 3 is outside 0 \.\. 2.*where: y, row 1.*why: .*fix: number the labels"
    ):
        one_hot(torch.tensor([0, 3]), 3)
    with pytest.raises(BadData, match=r"(?s)must be integers.*fix: `y.long\(\)`"):
        one_hot(torch.tensor([0.0, 1.0]), 2)
