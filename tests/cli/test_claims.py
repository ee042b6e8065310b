"""`gramian claims`: list, run, show; exit codes; JSON on stdout and nothing else there."""

import json
import re

import pytest

from gramian.claims import CLAIMS, HOLDS
from gramian.claims.outcomes import record

KEY = "arora2019fine.polynomials"


def test_list_names_every_claim(gramian_in):
    said = gramian_in("claims list").stdout
    assert all(key in said for key in CLAIMS)
    rows = json.loads(gramian_in("claims list --json").stdout)
    assert [row["claim"] for row in rows] == list(CLAIMS)


def test_run_judges_keeps_and_shows(gramian_in, tmp_path):
    done = gramian_in(f"claims run {KEY} --scale tiny --seeds 2")
    assert done.exit_code == 0, done.stderr
    assert "2 of 2 seeds agree" in done.stdout
    assert re.search(r"4 of 4: arora2019fine\.polynomials, seed 1002", done.stderr)
    assert len((tmp_path / "gramian-claims.jsonl").read_bytes().splitlines()) == 4
    (row,) = json.loads(gramian_in(f"claims show {KEY} --json").stdout)
    assert row["verdict"]["status"] == HOLDS
    assert row["control"]["status"] != HOLDS
    assert not row["falls_short"]


def test_the_gallery_is_made_from_what_ships(gramian_in, tmp_path):
    done = gramian_in("claims gallery pages")
    assert done.exit_code == 0, done.stderr
    assert "this is what ships with gramian" in done.stderr
    index = (tmp_path / "pages" / "index.html").read_text("utf-8")
    assert all(f'.html#{key.split(".")[1]}"' in index for key in CLAIMS)


def test_every_verdict_on_record_is_what_ships(gramian_in):
    rows = json.loads(gramian_in("claims show --json").stdout)
    shipped = {(row["claim"], row["scale"]): row["verdict"]["status"] for row in rows}
    assert shipped == {(key, scale): status for key, scales in record().items() for scale, status in scales.items()}
    assert all(row["verdict"]["seeds"] >= 5 and row["control"]["agreed"] == 0 for row in rows)


def test_a_verdict_below_the_record_exits_1(gramian_in, monkeypatch):
    monkeypatch.setitem(record(), "arora2019fine.curve", {"tiny": HOLDS})
    done = gramian_in("claims run arora2019fine.curve --scale tiny --seeds 1 --json")
    assert done.exit_code == 1
    (row,) = json.loads(done.stdout)
    assert row["falls_short"]
    assert row["recorded"] == HOLDS


def test_a_half_written_line_is_told_and_dropped(gramian_in, tmp_path):
    (tmp_path / "l.jsonl").write_text('{"claim": "arora')
    done = gramian_in(f"claims run {KEY} --scale tiny --seeds 1 --ledger l.jsonl")
    assert "1 line(s) that are not whole" in done.stderr
    assert len((tmp_path / "l.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("claims run", r"which claims to run was not said.*fix: gramian claims run --all"),
        ("claims run arora2019fine --all", r"said twice"),
        ("claims run arora2019fin", r"no claim 'arora2019fin'.*Did you mean 'arora2019fine'.*fix: gramian claims list"),
        ("claims run --all --scale smok", r"--scale smok is unknown.*'smoke'"),
        ("claims run --all --jobs 0", r"--jobs 0 makes no sense"),
        ("claims show --ledger none.jsonl", r"no ledger none\.jsonl.*fix: gramian claims run --all"),
        ("claims run arora2019fine.measure --scale paper --ledger l", r"where mnist lies was not said.*--data-dir"),
    ],
)
def test_mistakes_are_four_part_errors(assert_refused, command, text):
    assert_refused(command, text)
