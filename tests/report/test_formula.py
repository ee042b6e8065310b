"""Formulas in sentences: typeset whole, or left as they are written."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gramian.report.formula import typeset


def plain(text: str) -> str:
    """The letters of the MathML, without tags; a power is ^, a root is √."""
    page = str(typeset(text))
    for opening, shown in (("<msup>", "^"), ("<msub>", "_"), ("<msqrt>", "√"), ("<mspace", " <mspace")):
        page = page.replace(opening, shown)
    return re.sub(r"<[^>]*>", "", page)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("L^4.5", "^L4.5"),
        ("omega^(1/3)", "^ω(1/3)"),
        ("2^O(H)", "^2O(H)"),
        ("d log^5(m)", "d ^log5(m)"),
        ("1 / sqrt 2", "1/√2"),
        ("||grad F||^2", "^‖∇F‖2"),
        ("half of lambda_0", "half of _λ0"),
        ("exp(-m omega^(2/3) L), constant 1", "exp(−m ^ω(2/3) L), constant 1"),
        ("sqrt(K_0(x, x) K_0(x', x'))", "√_K0(x,x) _K0(^x′,^x′)"),
        ("(1 - lr lambda_0 / 4)^(2t)", "^(1−lr _λ0/4)(2 t)"),
        ("m >= 2.5e7", "m≥2.5×^107"),
        ("R^2 0.98 and RMSE 3", "^R2 0.98 and RMSE 3"),
    ],
)
def test_formulas_are_typeset_whole(text, shown):
    assert plain(text) == shown
    assert "<math>" in typeset(text)


@pytest.mark.parametrize(
    "text",
    [
        "a network of width 64, A and B stay as drawn",
        "Theorem 5 c",
        "arXiv:1811.03962",
        "layer4.weight, v2.13.0, 3e4b, a12345, 12.34567",
        "e.g. the paper's x-axis",
        "log scale, exp of nothing, poly, grad",
        "x^ and 2^( and a^b^c",
        "(limit: 0.0443)",
    ],
)
def test_sentences_without_formulas_stay(text):
    assert "<math>" not in typeset(text)


def test_the_argument_of_a_function_is_no_part_of_its_exponent():
    assert "<mn>5</mn></mrow></msup><mrow><mo>(</mo><mi>m</mi>" in typeset("log^5(m)")
    assert "<mi>O</mi><mrow><mo>(</mo><mi>H</mi><mo>)</mo></mrow></mrow></msup>" in typeset("2^O(H)")


@settings(deadline=None)  # long runs of brackets take 0.2 s on a busy machine
@given(st.text(alphabet="nmLx 0129.()^_/|'<>&=-+,e") | st.text())
@example("||r")
@example("((((" * 50)
@example("||x|| ||")
def test_any_text_becomes_well_formed_and_inert(text):
    page = str(typeset(text)).replace("&#39;", "'").replace("&#34;", '"')
    allowed = re.compile(
        r"</?(?:math|mrow|mi|mn|mo|msup|msub|msqrt)>|<mo stretchy=\"false\">|<mspace width=\"0.17em\"/>"
    )
    assert "<" not in allowed.sub("", page)
    for formula in re.findall(r"<math>.*?</math>", page):
        ElementTree.fromstring(formula)
