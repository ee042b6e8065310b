"""Data in every form that people hold them in: the same answer, or an error that says what to type."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch import nn

import gramian
from gramian.errors import BadArgument, BadData

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3))
Y = X @ np.array([1.0, 2.0, -1.0])
WORDS = np.where(X[:, 0] > 0, "yes", "no")
NUMBERS = (X[:, 0] > 0).astype(int)


def answer(x, y, outputs):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, outputs))
    return gramian.certify(net, x, y, optimizer="gd", steps=2)


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


REAL = {
    "read-only": lambda: (read_only(X), read_only(Y)),
    "column by column": lambda: (np.asfortranarray(X), Y),
    "backwards twice": lambda: (X[::-1][::-1], Y[::-1][::-1]),
    "of another machine": lambda: (X.astype(">f8"), Y.astype(">f8")),
    "a frame and a series": lambda: (pd.DataFrame(X, columns=list("abc")), pd.Series(Y)),
    "nullable": lambda: (pd.DataFrame(X).convert_dtypes(), pd.Series(Y, dtype="Float64")),
    "lists": lambda: (X.tolist(), Y.tolist()),
    "a column": lambda: (X, Y[:, None]),
    "objects": lambda: (X.astype(object), Y.astype(object)),
    "with a gradient": lambda: (torch.tensor(X, requires_grad=True), torch.tensor(Y)),
    "nothing masked": lambda: (np.ma.masked_array(X), Y),
}


@pytest.mark.parametrize("name", REAL)
def test_real_targets_in_every_form_have_one_answer(name):
    wanted, got = answer(torch.tensor(X), torch.tensor(Y)[:, None], 1), answer(*REAL[name](), 1)
    assert got.answer == wanted.answer
    assert got.run["loss"]["measured"] == wanted.run["loss"]["measured"]


@pytest.mark.parametrize("dtype", [np.float16, torch.float16, torch.bfloat16])
def test_low_precision_is_read_as_its_numbers(dtype):
    low = X.astype(dtype) if isinstance(dtype, type) else torch.tensor(X).to(dtype)
    wanted = answer(torch.as_tensor(low).double(), torch.tensor(Y), 1)
    assert answer(low, Y, 1).answer == wanted.answer


CLASSES = {
    "words": lambda: WORDS,
    "a series of words": lambda: pd.Series(WORDS),
    "categories": lambda: pd.Series(WORDS).astype("category"),
    "a frame with one column": lambda: pd.DataFrame({"label": WORDS}),
    "truth values": lambda: NUMBERS.astype(bool),
    "truth values of torch": lambda: torch.tensor(NUMBERS).bool(),
    "a column of whole numbers": lambda: NUMBERS[:, None],
    "bytes": lambda: NUMBERS.astype(np.uint8),
    "nullable": lambda: pd.Series(NUMBERS, dtype="Int64"),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes_in_every_form_have_one_answer(name):
    got = answer(X, CLASSES[name](), 2)
    assert got.answer == answer(torch.tensor(X), torch.tensor(NUMBERS), 2).answer
    assert got.data["task"] == "classes"


REFUSED = {
    "masked": (lambda: (np.ma.masked_greater(X, 1), Y), 1, "are masked"),
    "sparse": (lambda: (scipy.sparse.csr_matrix(X), Y), 1, "toarray"),
    "a single label": (lambda: (X[:1], torch.tensor(1)), 2, "one number"),
    "a single real target": (lambda: (X[:1], torch.tensor(1.5)), 1, "one number"),
    "a code for a class": (lambda: (X, np.where(NUMBERS, 10**9, 0)), 2, "1,000,000,001 classes"),
    "one class": (lambda: (X, 0 * NUMBERS), 2, "nothing to tell apart"),
    "a missing label": (lambda: (X, pd.Series([None, *NUMBERS[1:]], dtype="Int64")), 2, "not finite"),
    "no rows": (lambda: (X[:0], Y[:0]), 1, "no data"),
    "complex": (lambda: (X + 1j, Y), 1, "not numbers"),
    "signs as whole numbers": (lambda: (X, 2 * NUMBERS - 1), 1, "y as floats"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_data_is_refused_in_four_parts(name):
    make, outputs, text = REFUSED[name]
    with pytest.raises((BadData, BadArgument), match=f"(?s){text}") as caught:
        answer(*make(), outputs)
    assert all(part in str(caught.value) for part in ("where:", "why:", "fix:"))


def test_signs_as_floats_are_classes_and_a_test_set_may_lack_a_class():
    assert "training accuracy" in answer(X, 2.0 * NUMBERS - 1, 1).answer[0]
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    result = gramian.certify(net, X, WORDS, x_test=X[:2], y_test=["no", "no"], optimizer="gd", steps=2)
    assert result.run["scores"]["test"]["accuracy"] in (0.0, 0.5, 1.0)


def test_columns_of_a_test_frame_are_matched_by_name():
    """They were taken by position: the same rows with columns reversed had another error."""
    rng = np.random.default_rng(0)
    train, test = (pd.DataFrame(rng.normal(size=(n, 3)) * [1, 5, 1], columns=list("abc")) for n in (40, 20))
    y, y_test = ((t.a > 0).astype(int) for t in (train, test))
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2)).double()

    def error(rows):
        return gramian.certify(net, train, y, x_test=rows, y_test=y_test, steps=20, optimizer="gd").run["test"]

    assert error(test[["c", "b", "a"]])["network_error"] == error(test)["network_error"]
    with pytest.raises(BadData, match=r"(?s)missing 'a'; unknown 'z'.*fix: x_test.rename\(columns={'z': 'a'}\)"):
        error(test.rename(columns={"a": "z"}))
    with pytest.raises(BadData, match=r"(?s)missing 'b'.*fix: a frame with the column 'b'"):
        error(test[["a", "c"]])
    with pytest.raises(BadData, match=r"(?s)unknown 'd'.*fix: x_test.drop\(columns=\['d'\]\)"):
        error(test.assign(d=1.0))
