"""A trace is data: it pickles, prints, and comes back from JSON."""

import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gramian.errors import BadArgument, BadData
from gramian.train import Series, Trace, train

number = st.floats(allow_nan=False, allow_infinity=False)
value = st.one_of(number, st.dictionaries(st.text(max_size=5), number, max_size=3))
series = st.lists(value, max_size=4).map(lambda v: Series("title", "unit", list(range(len(v))), v))
traces = st.builds(
    Trace,
    st.dictionaries(st.text(max_size=5), st.one_of(st.none(), number, st.text(max_size=5)), max_size=3),
    st.lists(st.integers(0, 10**6), max_size=4),
    st.lists(number, max_size=4),
    st.dictionaries(st.text(max_size=5), series, max_size=3),
)


@given(traces)
@settings(max_examples=50, deadline=None)
def test_json_and_pickle_give_the_same_trace(trace):
    assert Trace.from_dict(json.loads(json.dumps(trace.to_dict(), allow_nan=False))) == trace
    assert pickle.loads(pickle.dumps(trace)) == trace


def real_trace(**options):
    torch.manual_seed(0)
    x, labels = torch.randn(12, 5), torch.arange(12) % 3
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    return train(net, x, labels, x_test=x, y_test=labels, steps=60, **options)


def test_a_real_trace_survives_a_file(tmp_path):
    trace = real_trace()
    path = tmp_path / "trace.json"
    trace.save(path)
    assert Trace.open(path) == trace
    assert pickle.loads(pickle.dumps(trace)) == trace


def test_it_prints_a_short_table():
    text = str(real_trace())
    lines = text.splitlines()
    assert lines[0].startswith("loss squared, optimizer gd, lr 0.")
    assert lines[1].split() == ["step", "loss", "train", "accuracy", "test", "accuracy"]
    assert lines[2].split()[0] == "0"
    assert lines[-2].split()[0] == "60"
    assert lines[-1].startswith("all 60 steps done; ")
    assert len(lines) <= 12
    assert str(real_trace(probes=())).splitlines()[2].split()[0] == "0"  # the losses, where nothing was measured


def test_numbers_that_are_not_finite_become_none_in_json(tmp_path):
    trace = Trace({}, [0, 1], [1.0, float("inf")], {"a": Series("", "", [0], [{"b": float("nan")}])}, diverged=True)
    assert trace.to_dict()["losses"] == [1.0, None]
    trace.save(tmp_path / "t.json")
    again = Trace.open(tmp_path / "t.json")
    assert again.losses[1] != again.losses[1]
    assert again.diverged


def test_every_probe_says_what_it_cost():
    trace = real_trace()
    assert set(trace.measured) <= set(trace.seconds)
    assert {"training", "gram", "learning rate"} <= set(trace.seconds)
    assert all(s >= 0 for s in trace.seconds.values())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"losses": [1.0]}'])
def test_what_is_no_trace_is_refused(text, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(BadData, match=r"(?s)is not a trace that can be read.*why:.*fix:"):
        Trace.open(path)
    with pytest.raises(BadData, match="FileNotFoundError"):
        Trace.open(tmp_path / "missing.json")


def test_an_unwritable_folder(tmp_path):
    with pytest.raises(BadArgument, match=r"(?s)Cannot write .*No such file.*fix:"):
        Trace({}, [], []).save(tmp_path / "missing" / "t.json")
