"""Tables as people have them: read right, or refused in four parts."""

import numpy as np
import pandas as pd
import pytest
import torch

from gramian.data import load
from gramian.errors import GramianError

ROWS = "a,b,label\n" + "".join(f"{i},{(7 * i) % 5},{'yes' if i % 2 else 'no'}\n" for i in range(1, 13))


def write(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def plain(path, **options):
    return load(path, n_test=0, normalize="none", **options)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(tmp_path, separator):
    data = plain(write(tmp_path, "\ufeff" + ROWS.replace(",", separator)))
    assert data.x.tolist() == [[i, (7 * i) % 5] for i in range(1, 13)]


def test_index_columns_are_left_out_and_that_is_said(tmp_path):
    frame = pd.read_csv(write(tmp_path, ROWS))
    frame.to_csv(tmp_path / "indexed.csv")
    data = plain(tmp_path / "indexed.csv")
    assert data.columns.names == ("a", "b")
    assert "The column without a name counts the rows: an index, left out." in data.notes
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "shuffled.csv")
    assert plain(tmp_path / "shuffled.csv").columns.names == ("a", "b")
    with pytest.raises(GramianError, match=r"(?s)column 0 \(counted from 0\) has no name"):
        load(write(tmp_path, ",b,label\n0.5,1,x\n0.7,2,y\n", "nameless.csv"))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('price,y\n"1,234",a\n"12,500.5",b\n950,a\n', [1234, 12500.5, 950]),
        ('price,y\n"1,234",a\n"2,500",b\n"3,000",a\n', [1234, 2500, 3000]),  # commas separate cells here
        ("price;y\n3,5;a\n4,25;b\n-1;a\n", [3.5, 4.25, -1]),
        ("price;y\n1.234,5;a\n2,5;b\n3;a\n", [1234.5, 2.5, 3]),
        ("price;y\n1,234,567;a\n2,000;b\n3;a\n", [1234567, 2000, 3]),
    ],
)
def test_numbers_with_separators(tmp_path, text, values):
    data = plain(write(tmp_path, text), target="y")
    assert data.x[:, 0].tolist() == values
    assert any("was read as numbers with" in note for note in data.notes)


def test_a_target_with_separators_is_a_regression(tmp_path):
    data = plain(write(tmp_path, 'a,price\n1,"1,234"\n2,"2,500"\n3,"3,000"\n'), target="price", task="regression")
    assert data.y.tolist() == [[1234], [2500], [3000]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("price;y\n1,234;a\n2,500;b\n", r"(?s)'1,234' is a thousand and more, or a decimal number.*fix: write"),
        ("price;y\n3,5;a\n1,234,567;b\n", r"(?s)thousands in some cells and decimals in others.*'1,234,567' and '3,5'"),
        ("day,y\n2020-01-01,a\n2020-02-01,b\n", r"(?s)column 'day' holds dates.*--without day"),
        ("day,y\n01.02.2020,a\n13.02.2020,b\n", r"(?s)column 'day' holds dates"),
        ("day,y\n1 Jan 2020,a\n2 feb 2021,b\n", r"(?s)column 'day' holds dates"),
        ("day,y\n12:30,a\n13:45:10,b\n", r"(?s)column 'day' holds dates"),
        ("p,y\n$5,a\n$7.50,b\n", r"(?s)2 of 2 cells are numbers with a sign, such as '\$5'.*fix: write the numbers"),
        ("p,y\n5 %,a\n7 %,b\n", r"(?s)2 of 2 cells are numbers with a sign"),
        ("a,y\n1,\n2,\n", r"column 'y' has no (label|value) in any of 2 rows|2 cells are empty"),
        ("a,when\n1,2020-01-01\n2,2020-02-01\n", r"(?s)labels in 'when' are dates.*fix: replace them"),
        ("5,red,1\n3,red,0\n2,blue,1\n", r"(?s)column name 'red' is also a value.*no line of column names"),
        ("5,2,1\n3,4,0\n2,7,1\n", r"(?s)column name '5' is a number.*no line of column names"),
        ("a,empty,y\n1,,a\n2,,b\n", r"(?s)column 'empty' has no value in any of 2 rows.*fix: .*--without empty"),
        ("a,y\n1,a\n2,\n3,b\n4,\n", r"(?s)2 cells are empty or NaN, in 2 of 4 rows.*rows 1, 3 .*column 'y'.*--missing"),
        ("a,b,y\n1,2,a\n,2,b\n", r"(?s)1 cell is empty.*row 1 \(counted from 0; line 3 of the file\), column 'a'"),
        ("a,a,y\n1,2,a\n", r"column 'a' is named twice"),
        ("a,y\n1,a\n", r"(?s)all 1 labels|1 row|nothing to tell apart"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(tmp_path, text, said):
    with pytest.raises(GramianError, match=said) as caught:
        load(write(tmp_path, text), target=text.split("\n")[0].replace(";", ",").split(",")[-1])
    assert caught.value.where
    assert caught.value.why
    assert caught.value.fix


HOLES = "a,c,y\n1,x,0\n,x,1\n3,,0\n5,z,1\n7,x,\n9,x,1\n"


def test_missing_values_by_choice(tmp_path):
    path = write(tmp_path, HOLES)
    dropped = plain(path, missing="drop")
    assert dropped.rows.tolist() == [0, 3, 5]
    assert dropped.x.tolist() == [[1, 1, 0], [5, 0, 1], [9, 1, 0]]
    assert "Left out: 3 rows of 6 with an empty cell." in dropped.notes
    filled = plain(path, missing="mean")
    assert filled.rows.tolist() == [0, 1, 2, 3, 5]  # a row without a label never counts
    assert filled.x[1, 0] == (1 + 3 + 5 + 9) / 4
    torch.testing.assert_close(filled.x[2, 1:], torch.tensor([3 / 4, 1 / 4]))  # the shares of x and z
    assert any("2 empty cells in a, c took the mean" in note for note in filled.notes)
    scaled = load(path, missing="mean", n_test=0)
    assert scaled.x[1, 0] == 0
    new = torch.tensor([[torch.nan, 1, 0]])
    torch.testing.assert_close(scaled.scaling(new)[0, 0], torch.tensor(0.0))


def test_a_column_without_values_and_one_of_one_value(tmp_path):
    data = load(write(tmp_path, "a,e,k,y\n1,,5,u\n2,,5,v\n3,,5,u\n"), missing="mean", n_test=0)
    assert "Left out: column 'e', which has no value in any row." in data.notes
    assert data.columns.names == ("a", "k")
    assert data.x[:, 1].tolist() == [0, 0, 0]
    assert "The same in all training rows, so nothing is learned from it: k." in data.notes
    assert load(tmp_path / "t.csv", without="e", n_test=0).columns.names == ("a", "k")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ("3,7,3,7", ("3", "7")),
        ("0.0,1.0,0.0,1.0", ("0", "1")),
        ("-1,1,-1,1", ("-1", "1")),
        ("True,False,True,False", ("False", "True")),
        ("no,yes,no,yes", ("no", "yes")),
        ("1,2,1,2", ("1", "2")),
    ],
)
def test_labels_of_every_kind(tmp_path, labels, classes):
    text = "a,y\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels.split(",")))
    assert plain(write(tmp_path, text)).classes == classes


def test_the_guess_of_the_task_is_said_and_the_task_can_be_said(tmp_path):
    path = write(tmp_path, "a,y\n" + "".join(f"{i},{i * 3}\n" for i in range(40)))
    guessed = plain(path)
    assert guessed.classes == ()
    assert any("taken as regression targets" in note and "--task" in note for note in guessed.notes)
    for word in ("classification", "classes"):
        said = plain(path, task=word)
        assert len(said.classes) == 40
        assert not any("--task" in note for note in said.notes)
    with pytest.raises(GramianError, match=r"task 'regresion' .*\n.*\n.*Did you mean 'regression'"):
        plain(path, task="regresion")


def test_frames_and_arrays_give_what_files_give(tmp_path):
    path = write(tmp_path, ROWS)
    frame = pd.read_csv(path)
    expected = load(path)
    x, y = frame[["a", "b"]], frame["label"]
    for given in (load(frame), load((x, y)), load((x.to_numpy(float), y.to_numpy())), load((torch.tensor(x.to_numpy(float)), y))):  # fmt: skip  # noqa: E501
        torch.testing.assert_close(given.x, expected.x)
        torch.testing.assert_close(given.x_test, expected.x_test)
        assert given.classes == expected.classes
        assert torch.equal(given.y, expected.y)
    table = np.column_stack([x, (y == "yes")]).astype(float)
    torch.testing.assert_close(load(table, target="-1").x, expected.x)


@pytest.mark.parametrize("given", [pd.DataFrame, 3.5, None, ["a", "b"], {"x": 1}, object()])
def test_what_is_no_data_is_refused(given):
    with pytest.raises(GramianError):
        load(given)


def test_nothing_is_scaled_unasked():
    """Two rings of 200 rows stay two rings; house prices keep their columns' meaning."""
    angle, radius = torch.linspace(0, 6.2, 200), torch.tensor([1.0, 3.0]).repeat(100)
    rings = (torch.stack([radius * angle.cos(), radius * angle.sin()], 1), (radius > 2).long().numpy())
    data = load(rings, n_test=0)
    norms = data.x.norm(dim=1)
    assert norms[data.y == 0].max() < norms[data.y == 1].min()
    assert torch.equal(load(rings, n_test=0, normalize="none").x, rings[0])
    assert data.scaling.says in data.notes
    torch.testing.assert_close(data.scaling(rings[0]), data.x)


def test_frames_of_odd_values():
    y = [0, 1, 0]
    for column, said in (
        (pd.to_timedelta([1, 2, 3], unit="D"), "column 'a' holds dates"),
        ([1j, 2j, 3j], "column 'a' holds neither numbers nor text"),
        ([[1], [2], [3]], "column 'a' holds neither numbers nor text"),
        (pd.date_range("2020-01-01", periods=3, tz="UTC"), "column 'a' holds dates"),
    ):
        with pytest.raises(GramianError, match=said):
            load(pd.DataFrame({"a": column, "y": y}))
    numbered = pd.DataFrame(np.arange(12.0).reshape(6, 2).round())
    assert load(numbered, target=1, task="regression").columns.names == ("0",)
    with pytest.raises(GramianError, match="3 rows of inputs, but 2 labels"):
        load((pd.DataFrame({"a": y}), pd.Series([1, 2])))
    kept = load((pd.DataFrame({"label": [1, 2, 3], "a": [3, 1, 2]}), np.array(y)), n_test=0)
    assert kept.columns.names == ("label", "a")
