import pytest
import torch

from gramian.data import check
from gramian.errors import BadData

X, Y = torch.ones(3, 2), torch.tensor([0, 1, 0])


def test_good_data_pass():
    check(X, Y, n_classes=2, in_shape=(2,))
    check(torch.ones(3, 1, 4, 4), torch.ones(3, 2))


def test_the_first_nan_is_named_by_row_and_column():
    x = X.clone()
    x[1, 1], x[2, 0] = torch.nan, torch.inf
    with pytest.raises(
        BadData, match=r"(?s)2 of 6 numbers are not finite.*where: t\.csv, row 40, column 1 .*why: .*fix: fill"
    ):
        check(x, Y, rows=torch.tensor([2, 40, 41]), name="t.csv")


def test_a_nan_far_down_is_found_in_an_image():
    x = torch.zeros(5000, 1, 2, 2)
    x[4500, 0, 1, 0] = torch.nan
    with pytest.raises(BadData, match=r"row 4500, position \(0, 1, 0\)"):
        check(x)


def test_infinite_regression_targets_are_named():
    with pytest.raises(BadData, match=r"(?s)first is inf.*where: labels of x, row 2, column 0"):
        check(X, torch.tensor([[0.0], [1.0], [torch.inf]]))


@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (X[:0], Y[:0], r"(?s)no data: inputs of shape \(0, 2\).*fix: give at least one row"),
        (X[:, :0], Y, r"no data: inputs of shape \(3, 0\)"),
        (X[0], Y, r"(?s)inputs of shape \(2,\) are not of shape \(n, d\).*fix: `x\[:, None\]`"),
        (X.long(), Y, r"(?s)torch.int64 are not floating point.*fix: `x.double\(\)`"),
        (X, Y[:2], r"(?s)3 rows of inputs, but 2 labels.*fix: give one label a row"),
        (X, Y.double(), r"(?s)regression targets must have shape \(n, C\).*fix: `y\[:, None\]`"),
        (X, Y[:, None], r"(?s)class labels must have shape \(n,\), not \(3, 1\).*fix: `y.argmax"),
        (X, Y - 1, r"(?s)label -1 is outside.*row 0"),
        (X, Y * 0, r"(?s)all 3 labels are class 0.*where: labels of x.*why: .*fix: take rows of at least two classes"),
    ],
)
def test_what_is_wrong_is_said(x, y, text):
    with pytest.raises(BadData, match=text):
        check(x, y)


def test_shape_and_classes_that_were_announced():
    with pytest.raises(BadData, match=r"\(3, 2\) are not of shape \(n, 5\)"):
        check(X, in_shape=(5,))
    with pytest.raises(BadData, match=r"label 1 is outside 0 \.\. 0"):
        check(X, Y, n_classes=1)
