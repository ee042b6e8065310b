import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.data.labels import as_labels, nearest
from gramian.errors import BadArgument, BadData


@given(st.lists(st.sampled_from(["b", "a", "c", "10"]), min_size=1))
def test_text_becomes_classes_and_back(words):
    found = as_labels(np.array(words), "here")
    assert [found.classes[c] for c in found.y] == words
    assert list(found.classes) == sorted(set(words))


@pytest.mark.parametrize(
    ("column", "classes"),
    [
        ([3, 1, 3], ("1", "3")),
        ([0.0, 1.0, 1.0], ("0", "1")),
        ([True, False], ("False", "True")),
        ([[0, 1], [1, 0], [0, 1]], ("0", "1")),
        ([[5], [6]], ("5", "6")),
        ([0.5, 1.0], ()),
        (list(range(50)) * 5, ()),
        ([[0.5, 1.0], [0.2, 0.1]], ()),
    ],
)
def test_what_is_a_class_and_what_a_number(column, classes):
    found = as_labels(np.array(column), "here")
    assert found.classes == classes
    assert found.y.dtype == (np.int64 if classes else np.float64)
    assert found.y.ndim == (1 if classes else 2)
    if classes and not isinstance(column[0], list):
        assert [found.classes[c] for c in found.y] == [str(int(v) if not isinstance(v, bool) else v) for v in column]


def test_the_choice_is_told_and_can_be_overruled():
    few, many = np.array([3, 4, 3]), np.arange(50)
    assert 'task="regression"' in as_labels(few, "here").notes[0]
    assert as_labels(few, "here", "regression").y.tolist() == [[3.0], [4.0], [3.0]]
    assert 'task="classification"' in as_labels(many, "here").notes[0]
    assert len(as_labels(many, "here", "classes").classes) == 50
    assert as_labels(many, "here", "classes").notes == ()


def test_test_labels_use_the_training_classes():
    found = as_labels(np.array(["cat", "dog"]), "here")
    assert found.encode(np.array(["dog", "cat", "dog"]), "here").tolist() == [1, 0, 1]
    for odd in ("bee", "eel", "cow"):
        with pytest.raises(
            BadData, match=rf"(?s)test label '{odd}' is none of the 2.*test row 1.*fix: code both alike"
        ):
            found.encode(np.array(["dog", odd]), "here")
    assert as_labels(np.array([0.5]), "here").encode(np.array([2.0]), "here").tolist() == [[2.0]]


def test_what_cannot_be_is_refused():
    with pytest.raises(BadArgument, match=r"(?s)regression on text: the first label is 'a'.*fix: task="):
        as_labels(np.array(["a", "b"]), "here", "regression")
    with pytest.raises(BadArgument, match="task 'rank' is neither"):
        as_labels(np.array([1]), "here", "rank")
    with pytest.raises(BadArgument, match=r"labels of shape \(2, 2\) are not one class a row"):
        as_labels(np.array([[0.5, 0.5], [1, 0]]), "here", "classes")


def test_nearest():
    assert nearest("Lable", ["label", "size"]) == " Did you mean 'label'?"
    assert nearest("zzz", ["label", "size"]) == ""
