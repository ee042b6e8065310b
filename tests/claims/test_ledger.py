"""The ledger: keys, damaged lines, and files that cannot be used."""

import math

import pytest

from gramian.claims import Ledger, Measured
from gramian.claims.ledger import SHIPPED, LedgerKey
from gramian.errors import BadArgument

KEY = LedgerKey("a.b", "tiny", 1, False, "0" * 12)
ONE, TWO = Measured({"x": 0.1}, {"y": [1.0, None]}), Measured({"x": 0.2}, {})


def test_numbers_come_back_as_they_were(tmp_path):
    Ledger(tmp_path / "l").add(KEY, {"n": 3}, ONE)
    assert Ledger(tmp_path / "l").measured == {KEY: ONE}


def test_what_is_not_finite_did_not_happen():
    measured = Measured({"x": math.inf}, {"y": [math.nan, 2]})
    assert measured == Measured({"x": None}, {"y": [None, 2.0]})
    assert math.isnan(measured.number("x"))
    assert math.isnan(measured.values("y")[0])


def test_the_first_line_of_a_key_counts(tmp_path):
    kept = Ledger(tmp_path / "l")
    kept.add(KEY, {}, ONE)
    kept.add(KEY, {}, TWO)
    assert Ledger(tmp_path / "l").measured == {KEY: ONE}


@pytest.mark.parametrize("damage", [b"{", b"[]\n", b"3\n", b'{"claim": 1}\n', b"\xff\n", b"\n"])
def test_lines_that_are_not_whole_are_dropped(tmp_path, damage):
    path = tmp_path / "l"
    Ledger(path).add(KEY, {}, ONE)
    line = path.read_bytes()
    path.write_bytes(damage + line if damage.endswith(b"\n") else line + damage)
    read = Ledger(path)
    assert read.measured == {KEY: ONE}
    assert read.dropped == 1


def test_no_path_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Ledger().add(KEY, {}, ONE)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_ledger(tmp_path):
    with pytest.raises(BadArgument, match=r"(?s)cannot be used.*fix: --ledger FILE"):
        Ledger(tmp_path)
    with pytest.raises(BadArgument, match="cannot be used"):
        Ledger(tmp_path / "none" / "l").add(KEY, {}, ONE)


def test_the_ledger_that_ships_is_whole():
    assert Ledger(SHIPPED).dropped == 0
