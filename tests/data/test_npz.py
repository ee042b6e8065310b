import numpy as np
import pytest

from gramian.data import load
from gramian.errors import BadArgument, BadData

X, Y = np.arange(12.0).reshape(6, 2) + 1, np.array([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize(
    "names", [("x", "y"), ("X_train", "y_train"), ("train_images", "train_labels"), ("data", "target")]
)
def test_the_usual_names_are_found(tmp_path, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (X, Y), strict=True)))
    data = load(tmp_path / "a.npz", n_test=0, normalize="none")
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)


def test_a_test_set_of_its_own_with_the_classes_of_the_training_set(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=np.array(list("bababa")), x_test=X[:2], y_test=np.array(["b", "b"]))
    data = load(tmp_path / "a.npz")
    assert (len(data.x), data.y_test.tolist(), data.classes) == (6, [1, 1], ("a", "b"))


def test_byte_images_get_channels_first_and_values_up_to_one(tmp_path):
    images = np.zeros((6, 8, 9, 3), np.uint8)
    images[:, 2, 5, 1] = 255
    np.savez(tmp_path / "a.npz", images=images, labels=Y)
    data = load(tmp_path / "a.npz", n_test=0, normalize="none")
    assert data.x.shape == (6, 3, 8, 9)
    assert data.x[:, 1, 2, 5].tolist() == [1.0] * 6
    assert "brought from" in " ".join(data.notes)
    np.savez(tmp_path / "a.npz", images=images[..., 1], labels=Y)
    assert load(tmp_path / "a.npz", n_test=0).x.shape == (6, 1, 8, 9)


def test_npy_takes_a_column_by_number(tmp_path):
    np.save(tmp_path / "a.npy", np.column_stack([Y, X]))
    data = load(tmp_path / "a.npy", target="0", n_test=0, normalize="none")
    np.testing.assert_array_equal(data.x, X)
    assert data.y.tolist() == Y.tolist()
    for wrong in (None, "label", "3"):
        with pytest.raises(BadArgument, match=r"(?s)must be a column number from -3 to 2.*fix: target=\"-1\""):
            load(tmp_path / "a.npy", target=wrong)


@pytest.mark.parametrize(
    ("arrays", "target", "says"),
    [
        ({"x": X, "z": Y}, None, r"(?s)no labels among the arrays x, z.*fix: np.savez"),
        ({"y": Y}, None, "no inputs among the arrays y"),
        ({"x": X, "why": Y}, "whi", r"(?s)no array 'whi'; there are x, why.*Did you mean 'why'"),
        ({"x": X, "y": Y[:4]}, None, r"6 rows of training inputs, but labels of shape \(4,\)"),
        ({"x": X[0], "y": Y}, None, r"training inputs of shape \(2,\) and dtype float64 are not rows of numbers"),
        ({"x": X, "y": Y, "x_test": X[:, :1], "y_test": Y}, None, r"test inputs of shape \(6, 1\) do not go with"),
        ({"x": X[:0], "y": Y[:0]}, None, "no data: 0 rows"),
        ({"x": X.astype(object), "y": Y}, None, r"(?s)member x .*Python objects.*fix: save plain numbers"),
        ({"x": np.where(X == 6, np.nan, X), "y": Y}, None, r"(?s)1 of \d+ numbers are not finite.*row 2, column 1"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, arrays, target, says):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadData, match=says):
        load(tmp_path / "a.npz", target=target, n_test=0)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path, name, share):
    path = tmp_path / name
    np.savez(path, x=X, y=Y) if name == "a.npz" else np.save(path, X)
    size = int(path.stat().st_size * share)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        BadData, match=rf"(?s)arrays cannot be read.*where: .*{name} \({size} bytes\).*truncated.*fix: download"
    ):
        load(path, target="1" if name == "a.npy" else None)


def test_an_array_that_is_no_table(tmp_path):
    np.save(tmp_path / "a.npy", X[0])
    with pytest.raises(BadData, match=r"(?s)array of shape \(2,\).*is no table.*fix: np.savez"):
        load(tmp_path / "a.npy", target="0")
