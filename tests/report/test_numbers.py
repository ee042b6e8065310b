"""Numbers as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.report.numbers import count, date, duration, last, number, percent, prose, quantity


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not measured"),
        (math.nan, "not measured"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (0, "0"),
        (0.0, "0"),
        (1.3e41, "1.3 × 10⁴¹"),
        (1e40, "10⁴⁰"),
        (9.996e-5, "10⁻⁴"),
        (999.96, "1,000"),
        (99999.96, "100,000"),
        (123456.7, "123,457"),
        (0.1 + 0.2, "0.3"),
        (100.0, "100"),
        (1024, "1,024"),
        (10**12, "10¹²"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_a_number_is_read_back_within_its_three_digits(value):
    text = number(value).replace(",", "")
    power = text.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    if " × 10" in text:
        mantissa, exponent = power.split(" × 10")
    elif set(text) & set("⁰¹²³⁴⁵⁶⁷⁸⁹"):
        mantissa, exponent = "1", power[2:]
    else:
        mantissa, exponent = text, "0"
    assert float(f"{mantissa}e{exponent}") == pytest.approx(value, rel=5.1e-3)
    assert number(-value) == "−" + number(value)


@given(st.floats(min_value=0, max_value=1, exclude_max=True))
def test_only_a_perfect_score_reads_100_percent(share):
    assert percent(share) != "100 %"
    assert percent(1.0) == percent(1) == "100 %"


def test_percent_of_nothing_measured():
    assert percent(None) == percent(math.nan) == "not measured"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "< 1 ms"), (0.0042, "4 ms"), (59.96, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (None, "not measured")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_dates():
    assert date("2026-01-02T03:04:05") == "2 January 2026, 03:04 UTC"
    assert date(None) == "not measured"
    assert date("yesterday") == "yesterday"


def test_counts():
    assert count(0, "step") == "0 steps"
    assert count(None, "step") == "not measured"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "not measured"),
        ("None", "not measured"),
        (True, "yes"),
        (2.5e-9, "2.5 × 10⁻⁹"),
        ("<= 1e-2", "≤ 0.01"),
        ("width 1024 in 2019", "width 1024 in 2019"),
        ("m^2 and (n)^-3", "m² and (n)⁻³"),
        ("inf", "∞"),
        (">= inf", "no finite number is enough"),
        ("≤ inf", "any number (no bound)"),
        ("L^4.5 and m^2", "L^4.5 and m^2"),
        ("m^(9/2) n^3", "m^(9/2) n^3"),
        ("n=1500", "n=1,500"),
        ("1.5", "1.5"),
    ],
)
def test_quantities(value, text):
    assert quantity(value) == text


def test_prose_leaves_names_and_ids_alone():
    text = "layer4.weight, arXiv:1811.03962, v2.13.0, 3e4b, a12345, 12.34567"
    assert prose(text) == text


def test_last_skips_what_was_not_measured():
    assert last([1.0, 2.0, None, math.nan]) == 2.0
    assert last([]) is None
    assert last(None) is None
