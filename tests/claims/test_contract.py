"""Every claim keeps its contract: at scale "tiny" it measures, judges, fails without its premise, and resumes."""

import json
import pickle
import subprocess
import sys
import time
from functools import cache

import pytest

from gramian.claims import CLAIMS, HOLDS, Ledger, chosen, run
from gramian.claims.claim import SCALES, VERDICTS, Measured
from gramian.claims.outcomes import record
from gramian.claims.registry import PAPER_FILES
from gramian.claims.runner import FIRST_SEED, Measurement, measure
from gramian.claims.versions import code_version
from gramian.report.static_svg import static_svg

SEEDS = (1, 2)
every_claim = pytest.mark.parametrize("key", CLAIMS)


@cache
def measured(key: str, broken: bool = False) -> tuple[Measured, ...]:
    return tuple(measure(Measurement(key, "tiny", seed, broken)) for seed in SEEDS)


@every_claim
def test_it_measures_plain_numbers_and_the_same_ones_again(key):
    again = measure(Measurement(key, "tiny", SEEDS[0]))
    assert again == measured(key)[0]
    assert json.loads(json.dumps(vars(again), allow_nan=False)) == vars(again)
    assert measured(key)[0] != measured(key)[1]


@every_claim
def test_its_verdict_has_all_parts(key):
    verdict = CLAIMS[key].judge(list(measured(key)))
    assert verdict.status in VERDICTS
    assert verdict.conditions
    assert verdict.effects
    assert verdict.says
    assert 0 <= verdict.agreed <= verdict.seeds == len(SEEDS)
    assert all(condition.holds is not None for condition in verdict.conditions)
    assert (verdict.status == HOLDS) == all(condition.holds for condition in verdict.conditions)
    assert all(effect.source for effect in verdict.effects if effect.other is not None)


@every_claim
def test_without_its_premise_it_fails(key):
    verdict = CLAIMS[key].judge(list(measured(key, broken=True)))
    assert verdict.status != HOLDS
    assert verdict.agreed == 0, "no seed agrees by itself either"
    assert any(condition.holds is False for condition in verdict.conditions), "it was measured, and it fails"


@every_claim
def test_its_pictures_are_drawn(key):
    for runs in (measured(key), measured(key, broken=True)):
        pictures = CLAIMS[key].picture(list(runs))
        assert pictures
        for one in pictures:
            assert one.sentence
            assert one.tables
            assert "<svg" in static_svg(one.figure)
            assert json.dumps(one.figure, allow_nan=False)


@every_claim
def test_it_pickles(key):
    claim = pickle.loads(pickle.dumps(CLAIMS[key]))
    assert claim == CLAIMS[key]
    verdict = claim.judge(list(measured(key)))
    assert pickle.loads(pickle.dumps(verdict)) == verdict


@every_claim
def test_it_says_what_a_reader_needs(key):
    claim = CLAIMS[key]
    assert claim.key.startswith(f"{claim.paper.key}.")
    assert set(claim.settings) == set(SCALES)
    for text in (claim.says, claim.done, claim.paper_scale, claim.broken.says, claim.gives):
        assert not text[0].islower() or text[1] == " "  # a symbol may begin it
        assert text.endswith(".")
    compile(claim.python, key, "exec")
    for scale in SCALES:
        assert claim.setting(scale, broken=True) != claim.setting(scale)
        assert claim.broken.changes.keys() <= claim.settings[scale].keys()


@every_claim
def test_a_killed_run_goes_on_and_leaves_the_same_bytes(key, tmp_path):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    kept = Ledger(whole)
    setting = CLAIMS[key].setting("tiny")
    for seed, numbers in zip(SEEDS, measured(key), strict=True):
        kept.add(Measurement(key, "tiny", seed).key(), setting, numbers)
    lines = whole.read_bytes().splitlines(keepends=True)
    killed.write_bytes(lines[0] + lines[1][:-20])  # killed while it wrote the second line
    goes_on = Ledger(killed)
    assert goes_on.dropped == 1
    assert list(goes_on.measured.values()) == [measured(key)[0]]
    goes_on.add(Measurement(key, "tiny", SEEDS[1]).key(), setting, measured(key)[1])
    assert killed.read_bytes() == whole.read_bytes()


def test_a_run_judges_and_measures_nothing_twice(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    done = []
    key = "arora2019fine.polynomials"
    first = run(key, scale="tiny", seeds=2, ledger=ledger, news=done.append)
    assert [one.claim for one in first] == [key]
    assert first[0].seeds == (FIRST_SEED, FIRST_SEED + 1)
    assert first[0].control.status != HOLDS
    assert not first[0].falls_short
    assert [(progress.done, progress.total) for progress in done] == [(k, 4) for k in range(1, 5)]
    before = ledger.read_bytes()
    assert run(key, scale="tiny", seeds=2, ledger=ledger, news=done.append) == first
    assert len(done) == 4
    assert ledger.read_bytes() == before


@pytest.mark.slow  # two processes that import torch
def test_two_processes_leave_the_same_lines_as_one(tmp_path):
    keys = ("arora2019fine.polynomials", "arora2019fine.measure")
    for jobs in (1, 2):
        run(keys, scale="tiny", seeds=2, jobs=jobs, ledger=tmp_path / f"{jobs}.jsonl")
    one, two = ((tmp_path / f"{jobs}.jsonl").read_bytes().splitlines() for jobs in (1, 2))
    assert sorted(one) == sorted(two)


@pytest.mark.slow  # three processes that import torch
def test_a_run_that_is_killed_goes_on_to_the_same_lines(tmp_path):
    keys = ("arora2019fine.measure", "liu2022nesterov.rates", "nguyen2021tight.layer")
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(keys, scale="tiny", seeds=4, ledger=whole)
    command = [sys.executable, "-m", "gramian", "claims", "run", *keys, "--scale", "tiny", "--seeds", "4"]
    running = subprocess.Popen([*command, "--ledger", str(killed), "--quiet"], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not killed.exists() or killed.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    running.kill()
    running.wait()
    assert 3 <= killed.read_bytes().count(b"\n") < 24, "it was killed in the middle"
    killed.write_bytes(killed.read_bytes() + b'{"claim": "arora')
    run(keys, scale="tiny", seeds=4, ledger=killed)
    assert killed.read_bytes() == whole.read_bytes()


def test_the_record_names_claims_and_verdicts_that_exist():
    assert record().keys() <= CLAIMS.keys()
    for scales in record().values():
        assert scales.keys() <= set(SCALES)
        assert set(scales.values()) <= set(VERDICTS)


def test_a_paper_stands_for_its_claims():
    assert {claim.key for claim in chosen(["liu2022nesterov"])} == {"liu2022nesterov.rates", "liu2022nesterov.growth"}
    assert [claim.key for claim in chosen()] == list(CLAIMS)


def test_files_are_short_and_their_claims_are_registered():
    from pathlib import Path

    for file in PAPER_FILES:
        assert len(Path(file.__file__).read_text("utf-8").splitlines()) < 150
        assert all(CLAIMS[claim.key] is claim for claim in file.CLAIMS)


def test_versions_are_of_code_and_setting(monkeypatch):
    from gramian.claims import arora2019powers

    claim = CLAIMS["arora2019fine.polynomials"]
    versions = {code_version(claim, scale, broken) for scale in SCALES for broken in (False, True)}
    assert len(versions) == 6
    before = code_version(CLAIMS["arora2019fine.curve"], "tiny", False)
    monkeypatch.setattr("gramian.claims.arora2019curve.LABELS", ("linear",))
    assert code_version(CLAIMS["arora2019fine.curve"], "tiny", False) != before
    assert arora2019powers.CLAIMS[0] is claim
