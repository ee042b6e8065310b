import re

import numpy as np
import pandas as pd
import pytest
import torch

from gramian.data import load
from gramian.errors import BadArgument, BadData

GOOD = "size,color,label\n1,red,no\n2,blue,yes\n3,red,no\n4,blue,yes\n"


def write(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_with_text_columns(tmp_path):
    data = load(write(tmp_path, GOOD), target="label", n_test=0, normalize="none")
    assert data.classes == ("no", "yes")
    assert data.y.tolist() == [0, 1, 0, 1]
    assert data.x.tolist() == [[1, 0, 1], [2, 1, 0], [3, 0, 1], [4, 1, 0]]
    assert data.notes[0] == "Column 'color' (text: blue, red) was one-hot encoded into 2 columns."
    assert data.name == "t"


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
def test_separators_byte_order_mark_and_blank_lines(tmp_path, separator):
    text = "\ufeff\n" + GOOD.replace(",", separator).replace("\n3", "\n\n3") + "\n\n"
    data = load(write(tmp_path, text), n_test=0, normalize="none")  # `label` goes without saying
    assert data.x[:, 0].tolist() == [1, 2, 3, 4]
    assert data.rows.tolist() == [0, 1, 3, 4]


def test_pixel_columns_named_by_number_are_names(tmp_path):
    data = load(write(tmp_path, "0,1,2,y\n5,6,7,a\n8,9,1,b\n"), n_test=0, normalize="none")
    assert data.x.tolist() == [[5, 6, 7], [8, 9, 1]]


def test_parquet_gives_the_same(tmp_path):
    frame = pd.read_csv(write(tmp_path, GOOD))
    frame.to_parquet(tmp_path / "t.parquet")
    a, b = (load(tmp_path / f"t.{kind}", target="label", seed=3) for kind in ("csv", "parquet"))
    assert torch.equal(a.x, b.x)
    assert a.classes == b.classes
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:100])
    with pytest.raises(BadData, match=r"(?s)parquet file cannot be read.*where: .*t\.parquet \(100 bytes\).*fix: save"):
        load(tmp_path / "t.parquet", target="label")


@pytest.mark.parametrize("empty", ["", "NA", "nan"])
def test_an_empty_cell_is_named_by_its_row_in_the_file(tmp_path, empty):
    text = "\n\n" + GOOD.replace("3,red,no", f"{empty},red,no").replace("2,blue", "\n2,blue")  # blank lines count
    line = text.splitlines().index(f"{empty},red,no") + 1
    row = line - 4  # two blank lines and the names come first; rows count from 0
    with pytest.raises(
        BadData,
        match=rf"(?s)1 cell is empty or NaN, in 1 of 4 .*t\.csv, row {row} .*line {line} .*column 'size'.*fix: ",
    ):
        load(write(tmp_path, text), target="label")


def test_infinite_cells_labels_and_marks_for_missing_values(tmp_path):
    with pytest.raises(BadData, match=r"(?s)first is inf.*row 1 .*column 'size'"):
        load(write(tmp_path, GOOD.replace("2,blue", "inf,blue")), target="label")
    with pytest.raises(
        BadData,
        match=r"(?s)1 of 4 cells is no number; the first is '\?'.*row 3 .*line 5 .*column 'size'.*mark for",
    ):
        load(write(tmp_path, GOOD.replace("4,blue", "?,blue")), target="label")
    with pytest.raises(BadData, match=r"(?s)first is inf.*row 0 .*column 'y'"):
        load(write(tmp_path, "a,y\n1,inf\n2,0.5\n"))


def test_a_missing_target_lists_the_columns_and_the_nearest(tmp_path):
    path = write(tmp_path, GOOD)
    expected = r"(?s)no column 'lable'.*where: .*columns: size, color, label\n.*Did you mean 'label'\?.*fix: `target`"
    with pytest.raises(BadData, match=expected):
        load(path, target="lable")
    with pytest.raises(BadData, match=r"(?s)was not said.*columns: a, b\n.*fix: `target` .*'b'"):
        load(write(tmp_path, "a,b\n1,2\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"(?s)table is empty.*where: .*t\.csv"),
        ("\n\n", "table is empty"),
        ("a,y\n", "(?s)0 rows and 1 column besides 'y'.*fix: give at least one feature"),
        ("y\n1\n2\n", "2 rows and 0 columns besides 'y'"),
        ("a,b,y\n1,2,x\n1,2\n", r"(?s)empty or NaN.*row 1 .*line 3 .*column 'y'.*too few cells"),
        ("a,y\n1,x\n1,x,3\n", r"(?s)cannot be read.*line 3.*more cells than"),
        ("a,y\n1,2,x\n1,3,x\n", r"(?s)cannot be read.*more cells than"),
        (
            "5.1,3.5,a\n4.9,3.0,b\n",
            r"(?s)column name '5\.1' is a number.*line 1 .*no line of column names.*fix: put a line",
        ),
        ("7,0,0\n5,0,1\n", r"(?s)column '0' is named twice.*no line of column names"),
        ("a,a,y\n5,0,1\n", r"(?s)column 'a' is named twice.*two columns have one name"),
        ("a,y\n1,x\n2,x\n3,x\n", r"(?s)all \d labels are class 0.*where: labels of t"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, says):
    with pytest.raises(BadData, match=says):
        load(write(tmp_path, text), target="y" if re.search("^.*y", text) else None)


def test_not_utf8(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("größe,y\n1,a\n".encode("latin-1"))
    with pytest.raises(BadData, match=r"(?s)cannot be read: 'utf-8' codec.*fix: .*UTF-8"):
        load(path)


def test_identifiers_and_dates_are_no_features(tmp_path):
    names = "".join(f"n{i},{i % 2}\n" for i in range(30))
    with pytest.raises(BadArgument, match=r"(?s)column 'name' has 30 different texts in 30 rows.*fix: drop the column"):
        load(write(tmp_path, "name,y\n" + names))
    frame = pd.DataFrame({"when": pd.to_datetime(["2020-01-01", "2020-01-02"]), "y": ["a", "b"]})
    frame.to_parquet(tmp_path / "d.parquet")
    with pytest.raises(BadData, match=r"(?s)column 'when' holds dates.*fix: .*replace it by numbers"):
        load(tmp_path / "d.parquet")


def test_numbers_are_regression_and_whole_numbers_may_be(tmp_path):
    data = load(write(tmp_path, "a,y\n1,0.5\n2,0.7\n3,0.5\n"), n_test=0)
    assert data.classes == ()
    assert data.targets.tolist() == [[0.5], [0.7], [0.5]]
    path = write(tmp_path, "a,y\n1,3\n2,4\n3,3\n")
    assert load(path, n_test=0).classes == ("3", "4")
    assert load(path, n_test=0, task="regression", normalize="none").y.tolist() == [[3], [4], [3]]


def test_true_and_false_are_numbers_as_features_and_classes_as_labels(tmp_path):
    data = load(write(tmp_path, "a,b,y\nTrue,1,False\nFalse,2,True\n"), n_test=0, normalize="none")
    np.testing.assert_array_equal(data.x, [[1, 1], [0, 2]])
    assert data.classes == ("False", "True")
