"""The fixture facts: invented numbers with the shape of a real report (make_fixture_facts.py)."""

import copy
import json
from pathlib import Path

import pytest

FIXTURE = json.loads(Path(__file__).with_name("fixture_facts.json").read_text(encoding="utf-8"))


@pytest.fixture
def facts() -> dict:
    """Three networks; a copy, to be changed freely."""
    return copy.deepcopy(FIXTURE)


@pytest.fixture
def run(facts) -> dict:
    """The first of the three networks."""
    return facts["runs"][0]
