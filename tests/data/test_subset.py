import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.data.subset import head, split, stratified_order
from gramian.errors import BadArgument

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)


@given(y=labels, seed=st.integers(0, 2**32))
def test_every_prefix_holds_the_classes_in_proportion(y, seed):
    order = stratified_order(y, seed)
    assert sorted(order) == list(range(len(y)))
    classes, counts = np.unique(y, return_counts=True)
    assert set(y[order[: len(classes)]]) == set(classes)  # one of each first
    for n in range(len(y) + 1):
        taken = np.array([(y[order[:n]] == c).sum() for c in classes])
        assert (abs(taken - n * counts / len(y)) <= len(classes)).all()


@given(y=labels, seed=st.integers(0, 99), data=st.data())
def test_train_and_test_are_disjoint_and_grow(y, seed, data):
    n_test = data.draw(st.integers(0, len(y) - 1))
    n = data.draw(st.integers(1, len(y) - n_test))
    few, test = split(y, n, n_test, seed)
    rest, test_of_all = split(y, None, n_test, seed)
    assert (len(few), len(test)) == (n, n_test)
    assert test.tolist() == test_of_all.tolist()
    assert set(few) <= set(rest)
    assert set(rest) | set(test) == set(range(len(y)))
    assert not set(rest) & set(test)


def test_a_class_of_one_row_is_trained_on():
    y = np.array([0] * 50 + [1] * 49 + [2])
    for seed in range(20):
        train, _ = split(y, None, 50, seed)
        assert 99 in train


def test_the_draw_is_the_same_for_ever():
    y = np.arange(20) % 2
    assert head(y, 6, 0, "training").tolist() == [2, 3, 8, 11, 13, 18]  # the raw stream of PCG64(0)
    assert head(y, 6, 1, "training").tolist() != head(y, 6, 0, "training").tolist()


def test_default_test_rows_are_a_fifth_at_most_a_thousand_and_give_way_to_n():
    assert [len(split(np.zeros(k), None, None, 0)[1]) for k in (10, 100, 100_000)] == [2, 20, 1000]
    assert len(split(np.zeros(100), 95, None, 0)[1]) == 5


@pytest.mark.parametrize(
    ("n", "n_test", "text"),
    [
        (
            11,
            None,
            r"(?s)11 training rows were asked for; there are 10.*where: n=11.*why: .*fix: a number from 1 to 10",
        ),
        (0, None, r"0 training rows were asked for"),
        (9, 3, r"(?s)9 training and 3 test rows were asked for; there are 10 in all.*fix: n=8, n_test=2"),
        (None, 10, r"at least 1 training and 10 test rows"),
        (None, -1, r"-1 test rows"),
    ],
)
def test_more_rows_than_there_are(n, n_test, text):
    with pytest.raises(BadArgument, match=text):
        split(np.zeros(10), n, n_test, 0)
