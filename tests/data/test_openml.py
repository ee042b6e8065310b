from urllib.error import URLError

import pandas as pd
import pytest
from sklearn import datasets
from sklearn.utils import Bunch

from gramian.data import load
from gramian.errors import BadArgument, BadData

FRAME = pd.DataFrame(
    {"a": [1.0, 2.0, 3.0], "b": pd.Categorical(["u", "v", "u"]), "kind": pd.Categorical(["x", "y", "x"])}
)


def test_a_table_as_openml_sends_it(monkeypatch):
    asked = {}

    def fetch(**kwargs):
        asked.update(kwargs)
        return Bunch(frame=FRAME, target_names=["kind"], details={"name": "toy"})

    monkeypatch.setattr(datasets, "fetch_openml", fetch)
    data = load("openml:42", n_test=0, normalize="none")
    assert asked["data_id"] == 42
    assert asked["target_column"] == "default-target"
    assert data.name == "toy"
    assert data.classes == ("x", "y")
    assert data.x.tolist() == [[1, 1, 0], [2, 0, 1], [3, 1, 0]]


def test_no_network_is_said_in_four_parts(monkeypatch):
    def fetch(**_):
        raise URLError("no route to host")

    monkeypatch.setattr(datasets, "fetch_openml", fetch)
    with pytest.raises(BadData) as caught:
        load("openml:61")
    assert str(caught.value) == (
        "OpenML data set 61 could not be fetched: no route to host\n"
        "  where: openml:61\n"
        "  why: no network, a proxy that refuses, or no such number or target column.\n"
        "  fix: try again with a network, or save the table elsewhere and give the file: --data table.csv."
    )


def test_names_and_several_targets_are_refused(monkeypatch):
    with pytest.raises(BadArgument, match=r"(?s)'iris' is no OpenML number.*fix: the number"):
        load("openml:iris")
    monkeypatch.setattr(datasets, "fetch_openml", lambda **_: Bunch(frame=FRAME, target_names=["a", "b"], details={}))
    with pytest.raises(BadData, match=r"(?s)has 2 target columns: a, b.*fix: `target`"):
        load("openml:1")
