import math
import os

import pytest
import torch

from gramian.data import available, geometry, load
from gramian.data.normalize import row_norms
from gramian.errors import BadArgument, BadData, GramianError

SHAPES = {"digits": (1, 8, 8), "iris": (4,), "wine": (13,), "breast-cancer": (30,), "diabetes": (10,)}


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch, request):
    if not request.node.name.startswith("test_real"):
        monkeypatch.delenv("GRAMIAN_DATA", raising=False)


@pytest.mark.parametrize("name", SHAPES)
def test_embedded_sets(name):
    data = load(name)
    assert data.in_shape == SHAPES[name]
    if name == "digits":  # pixels
        assert 0 <= float(data.x.min()) < float(data.x.max()) == 1
    else:
        torch.testing.assert_close(data.x.mean(0), torch.zeros(data.x.shape[1]), atol=1e-12, rtol=0)
        torch.testing.assert_close(data.x.std(0, correction=0), torch.ones(data.x.shape[1]))
    torch.testing.assert_close(row_norms(load(name, normalize="unit").x), torch.ones(len(data.x)))
    assert data.scaling.says in data.notes
    assert data.targets.shape == (len(data.x), data.n_outputs)
    assert bool(data.classes) == (name != "diabetes")
    assert len(data.x_test) == round((len(data.x) + len(data.x_test)) / 5)


def test_digits_are_the_pixels_over_sixteen_of_the_rows_named():
    from sklearn.datasets import load_digits

    data = load("digits", n=100, normalize="none")
    raw = load_digits()
    torch.testing.assert_close(data.x[:, 0] * 16, torch.from_numpy(raw.images[data.rows]))
    assert data.y.tolist() == raw.target[data.rows].tolist()


def test_a_seed_picks_the_same_rows_and_more_rows_keep_them():
    a, b, other = load("digits", n=50), load("digits", n=200), load("digits", n=50, seed=1)
    assert a.rows.equal(load("digits", n=50).rows)
    assert set(a.rows.tolist()) < set(b.rows.tolist())
    assert not a.rows.equal(other.rows)
    assert torch.bincount(a.y).tolist() == pytest.approx([5] * 10, abs=1)
    assert a.x_test.equal(b.x_test)


def test_standardize_takes_training_statistics():
    raw, data = load("wine", normalize="none"), load("wine", normalize="standardize")
    mean, sigma = raw.x.mean(0), raw.x.std(0, correction=0)
    torch.testing.assert_close(data.x_test, (raw.x_test - mean) / sigma)


def test_dtype_and_names_as_people_write_them():
    data = load("Breast_Cancer", dtype=torch.float32)
    assert data.x.dtype == data.targets.dtype == torch.float32
    assert data.y.dtype == torch.int64
    assert load("diabetes", dtype=torch.float32).y.dtype == torch.float32


def test_rows_that_scaling_makes_equal_are_said(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,3,no\n3,9,yes\n1,0,yes\n")
    data = load(path, n_test=0, normalize="unit")
    assert data.notes[0].startswith("1 of 3 rows became equal to another one")
    assert geometry(data.x).separation < 1e-15
    assert load(path, n_test=0, normalize="standardize").notes[:-1] == ()


def test_equal_rows_with_different_labels_are_found_by_their_number(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,3,no\n1,3,yes\n1,0,yes\n5,0.5,no\n")
    data = load(path, n_test=0, normalize="none")
    assert geometry(data.x, data.y, rows=data.rows).conflicts == ((0, 1),)


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (
            "digit",
            {},
            r"(?s)no data set 'digit'.*where: known: digits, iris, .*uci:NAME.*Did you mean 'digits'\?.*fix: ",
        ),
        ("table.csv", {}, r"(?s)no file table\.csv.*where: .*table\.csv.*why: .*fix: the path"),
        ("some/where/t.csv", {}, r"(?s)no file.*there is no folder some/where"),
        ("pyproject.toml", {}, r"(?s)no (reader|file|data set)"),
        ("mnist", {}, r"(?s)where mnist lies was not said.*GRAMIAN_DATA is not set.*fix: --data-dir FOLDER"),
        ("mnist", {"data_dir": "nowhere"}, r"(?s)no folder nowhere.*where: data_dir.*fix: the folder that holds"),
        ("digits", {"normalize": "l2"}, r"(?s)normalize='l2' is unknown.*fix: \"unit\""),
        ("digits", {"dtype": torch.int64}, "torch.int64 is not floating point"),
        ("digits", {"target": "y"}, r"(?s)digits has labels of its own.*fix: leave it out"),
        ("digits", {"n": 5000}, r"(?s)5000 training rows were asked for; there are 1797"),
        ("digits", {"n": 1}, "there is nothing to tell apart"),
    ],
)
def test_what_cannot_be_loaded_is_said(data, options, says):
    with pytest.raises(GramianError, match=says):
        load(data, **options)


def test_a_near_name_in_the_folder_is_offered(tmp_path):
    (tmp_path / "table.csv").write_text("a,y\n")
    with pytest.raises(BadData, match=r"Did you mean 'table\.csv'\?"):
        load(tmp_path / "tabel.csv")


def test_the_data_folder_is_the_argument_or_the_variable(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    assert [row.name for row in available() if not row.present] == ["mnist", "fashion-mnist", "cifar10", "uci"]
    monkeypatch.setenv("GRAMIAN_DATA", str(tmp_path))
    rows = {row.name: row for row in available()}
    assert rows["mnist"].where == str(tmp_path / "mnist")
    assert len(rows["mnist"].missing) == 4
    assert rows["cifar10"].where == f"{tmp_path / 'cifar10'}, {tmp_path / 'cifar-10'}"
    with pytest.raises(BadData, match=r"(?s)fashion-mnist is not in the data folder.*fashion_mnist.*FashionMNIST/raw"):
        load("fashion-mnist")
    monkeypatch.setenv("GRAMIAN_DATA", str(tmp_path / "gone"))
    with pytest.raises(BadArgument, match="the environment variable GRAMIAN_DATA"):
        available()


@pytest.mark.skipif("GRAMIAN_DATA" not in os.environ, reason="GRAMIAN_DATA is not set")
def test_real_data_are_what_is_known_of_them():
    for row in available():
        if row.present and row.name in ("mnist", "fashion-mnist", "cifar10"):
            data = load(row.name, n=200, n_test=50)
            assert torch.bincount(data.y).tolist() == pytest.approx([20] * 10, abs=4)
            found = geometry(data.x, data.y, rows=data.rows)
            assert 0 < found.separation < math.sqrt(2)
            assert found.conflicts == ()
