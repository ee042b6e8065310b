"""Formulas in sentences, typeset: `n^(9/2) L^4.5 / lambda_0` becomes MathML, whole, or stays as it is written.

Theorems' conditions are sentences with formulas in them, as people type them. A formula is read from the first letter
that can start one as far as it goes; what can't be read to its end is left alone. Divisions stay on one line, so that
`1 / L log m` is no more and no less ambiguous than its author left it.

    sum     -> ["-"] product {("+" | "-") product}, with relations between sums
    product -> power {power | "/" power}                       juxtaposition multiplies
    power   -> atom ["^" exponent] {"(" arguments ")"}         log^5(m), 2^O(H), K_0(x, x')
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from markupsafe import Markup, escape

from gramian.report.numbers import number, prose

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eps": "ε", "eta": "η", "kappa": "κ",
    "lambda": "λ", "mu": "μ", "omega": "ω", "rho": "ρ", "sigma": "σ", "theta": "θ", "tau": "τ", "phi": "φ",
    "Omega": "Ω", "Theta": "Θ", "Sigma": "Σ", "Lambda": "Λ",
}  # fmt: skip
FUNCTIONS = ("log", "exp", "poly")
WORDS = ("lr", "min", "max")  # identifiers of more than a letter that stand in formulas
RELATIONS = {"<=": "≤", ">=": "≥", "<": "&lt;", ">": "&gt;", "=": "=", "≤": "≤", "≥": "≥"}
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NAME = re.compile(r"([A-Za-zα-ωΑ-Ω]+)(?:_([A-Za-z0-9]+))?")
_STARTS = re.compile(r"(?<![\w'.=/<>&;@#`^-])(?:[A-Za-zα-ωΑ-Ω0-9(|]|-(?=[a-zα-ω]))")
_NUMBERED = re.compile(r"(?:Theorem|Lemma|Corollary|Assumption|Equation|Figure|Table|card|row|step|version)s?\s$", re.I)
_NO_LETTER_OF_A_FORMULA = "aAIBs"  # an article, a pronoun, names of matrices in a sentence, the s of a genitive


class _NoFormula(Exception):
    """What was read so far goes on in a way that is none."""


@dataclass
class _Reader:
    """Where the reading stands, and whether what was read is more than a number or a word."""

    text: str
    at: int
    strong: bool = False
    letters: int = 0
    bars: str = ""  # the bars that are open: the next ones close them

    def ahead(self, *symbols: str) -> str:
        """The symbol that comes next, spaces skipped; "" if it is none of these."""
        place = self.after_spaces()
        return next((s for s in symbols if self.text.startswith(s, place)), "")

    def take(self, symbol: str) -> None:
        self.at = self.after_spaces() + len(symbol)

    def need(self, symbol: str) -> None:
        if self.ahead(symbol) != symbol:
            raise _NoFormula
        self.take(symbol)

    def after_spaces(self) -> int:
        place = self.at
        while place < len(self.text) and self.text[place] == " ":
            place += 1
        return place


def typeset(text: object, *, powers_only: bool = False) -> Markup:
    """A sentence as HTML: its formulas as MathML, the rest as people write it (`numbers.prose`), escaped.

    Args:
        text: a sentence.
        powers_only: only formulas that have an exponent are typeset: for sentences with names in them.

    Example:
        >>> typeset("at most m^2")
        Markup('at most <math><msup><mi>m</mi><mrow><mn>2</mn></mrow></msup></math>')
    """
    text = str(text)
    parts: list[str] = []
    done = at = 0
    while match := _STARTS.search(text, at):
        start = match.start()
        formula, end = _formula(text, start)
        wanted = formula and not (powers_only and "^" not in text[start:end])
        if not wanted or _NUMBERED.search(text[:start]):
            at = _end_of_word(text, max(start + 1, end if formula else start + 1))
            continue
        parts += [_plain(text[done:start]), f"<math>{formula}</math>"]
        done = at = end
    return Markup("".join([*parts, _plain(text[done:])]))


def _plain(text: str) -> str:
    if text:
        return str(escape(prose(text)))
    return ""


def _end_of_word(text: str, at: int) -> int:
    while at < len(text) and (text[at].isalnum() or text[at] in "_'") and text[at - 1].isalnum():
        at += 1
    return at


def _formula(text: str, start: int) -> tuple[str, int]:
    """MathML of the longest formula that starts here, and where it ends; "" if there is none."""
    reader = _Reader(text, start)
    try:
        inside = _relation(reader)
    except _NoFormula:
        return "", start
    if not reader.strong and (reader.letters != 1 or reader.at - start != 1):
        return "", reader.at if reader.letters == 0 else start
    return inside, reader.at


def _optional(reader: _Reader, rule: Callable[[_Reader], str]) -> str:
    """What a rule reads, or "" with the reader put back where it was."""
    kept = (reader.at, reader.strong, reader.letters, reader.bars)
    try:
        return rule(reader)
    except _NoFormula:
        reader.at, reader.strong, reader.letters, reader.bars = kept
        return ""


def _relation(reader: _Reader) -> str:
    parts = [_sum(reader)]
    while sign := reader.ahead(*RELATIONS):
        more = _optional(reader, partial(_after, sign=sign, shown=RELATIONS[sign], rule=_sum))
        if not more:
            break
        reader.strong = reader.strong or reader.letters > 0
        parts.append(more)
    return "".join(parts)


def _after(reader: _Reader, sign: str, shown: str, rule: Callable[[_Reader], str]) -> str:
    reader.take(sign)
    return f"<mo>{shown}</mo>" + rule(reader)


def _sum(reader: _Reader) -> str:
    parts = []
    if reader.ahead("-"):
        reader.take("-")
        parts.append("<mo>−</mo>")
    parts.append(_product(reader))
    while sign := reader.ahead("+", "-"):
        spaced = reader.text[reader.after_spaces() + 1 :][:1] == " " and reader.text[reader.at : reader.at + 1] == " "
        if not spaced:  # a hyphen of a word
            break
        more = _optional(reader, partial(_after, sign=sign, shown=sign.replace("-", "−"), rule=_product))
        if not more:
            break
        reader.strong = reader.strong or reader.letters > 0
        parts.append(more)
    return "".join(parts)


def _product(reader: _Reader) -> str:
    parts = [_power(reader)]
    while True:
        if reader.ahead("/"):
            more = _optional(reader, partial(_after, sign="/", shown="/", rule=_power))
            if more:
                reader.strong = reader.strong or reader.letters > 0
        elif reader.text[reader.after_spaces() :][:1].isdigit():
            break  # "R^2 0.98" is a name and its value
        else:
            more = _optional(reader, _power)
            if more:
                reader.strong = True
                more = '<mspace width="0.17em"/>' + more
        if not more:
            break
        parts.append(more)
    return "".join(parts)


def _power(reader: _Reader) -> str:
    base = _atom(reader)
    if reader.text.startswith("^", reader.at):
        reader.take("^")
        sign = ""
        if reader.text.startswith("-", reader.at):
            reader.take("-")
            sign = "<mo>−</mo>"
        raised = _atom(reader)
        # 2^O(H); but the m of log^5(m) is no part of the exponent
        if raised.startswith("<mi>"):
            raised += _arguments(reader)
        exponent = sign + raised
        base = f"<msup>{base}<mrow>{exponent}</mrow></msup>"
        reader.strong = True
    return base + _arguments(reader)


def _arguments(reader: _Reader) -> str:
    """Parentheses that follow without a space: the arguments of a function."""
    if not reader.text.startswith("(", reader.at):
        return ""
    arguments = _optional(reader, _parentheses)
    reader.strong = reader.strong or bool(arguments)
    return arguments


def _parentheses(reader: _Reader) -> str:
    reader.need("(")
    outside, reader.bars = reader.bars, ""
    parts = [_relation(reader)]
    while reader.ahead(","):
        parts.append(_after(reader, ",", ",", _relation))
    reader.need(")")
    reader.bars = outside
    return f"<mrow><mo>(</mo>{''.join(parts)}<mo>)</mo></mrow>"


def _norm(reader: _Reader, bars: str) -> str:
    if reader.bars:
        raise _NoFormula  # these close the open ones
    reader.take(bars)
    reader.bars = bars
    inside = _sum(reader)
    reader.need(bars)
    reader.bars, reader.strong = "", True
    if bars == "||":
        shown = "‖"
    else:
        shown = "|"
    return f'<mrow><mo stretchy="false">{shown}</mo>{inside}<mo stretchy="false">{shown}</mo></mrow>'


def _atom(reader: _Reader) -> str:
    place = reader.after_spaces()
    if match := _NUMBER.match(reader.text, place):
        reader.at = match.end()
        if "e" in match[0].lower() and reader.text[reader.at : reader.at + 1].isalpha():
            raise _NoFormula  # a name such as 3e4b
        return _number(match[0])
    if bars := reader.ahead("||", "|"):
        return _norm(reader, bars)
    if reader.ahead("("):
        return _parentheses(reader)
    return _name(reader, place)


def _number(digits: str) -> str:
    if "e" not in digits.lower():
        return f"<mn>{digits}</mn>"
    mantissa, _, power = number(float(digits)).partition(" × 10")
    if not power:
        return f"<mn>{mantissa}</mn>"
    exponent = digits.lower().partition("e")[2]
    raised = f"<mn>{abs(int(exponent))}</mn>"
    if int(exponent) < 0:
        raised = f"<mrow><mo>−</mo>{raised}</mrow>"
    return f"<mn>{mantissa}</mn><mo>×</mo><msup><mn>10</mn>{raised}</msup>"


def _name(reader: _Reader, place: int) -> str:
    match = _NAME.match(reader.text, place)
    if not match:
        raise _NoFormula
    name, subscript = match[1], match[2]
    after = reader.text[match.end() : match.end() + 2]
    if re.match(r"[\w]|[-.][^\W\d_]", after):
        raise _NoFormula
    reader.at = match.end()
    if name == "sqrt" and not subscript:
        reader.strong = True
        return _root(reader)
    if name == "grad" and not subscript:
        reader.strong = True
        return "<mo>∇</mo>" + _atom(reader)
    if name in FUNCTIONS and not subscript:
        if not re.match(r"\^|\(| \w\b", reader.text[reader.at : reader.at + 3]):
            raise _NoFormula  # a word of the sentence: "log scale"
        reader.strong = True
        return f"<mi>{name}</mi>"
    return _letter(reader, name, subscript)


def _root(reader: _Reader) -> str:
    """What is under a root; the root's bar stands for the parentheses."""
    if not reader.text.startswith("(", reader.at):
        return f"<msqrt>{_atom(reader)}</msqrt>"
    reader.take("(")
    outside, reader.bars = reader.bars, ""
    inside = _relation(reader)
    reader.need(")")
    reader.bars = outside
    return f"<msqrt>{inside}</msqrt>"


def _letter(reader: _Reader, name: str, subscript: str | None) -> str:
    if name in GREEK:
        shown = GREEK[name]
        reader.strong = True
    elif name in WORDS or len(name) == 1:
        shown = name
        if not subscript and name in _NO_LETTER_OF_A_FORMULA:
            raise _NoFormula
    else:
        raise _NoFormula
    reader.letters += 1
    out = f"<mi>{shown}</mi>"
    if subscript:
        reader.strong = True
        below = GREEK.get(subscript, subscript)
        if below.isdigit():
            tag = "mn"
        else:
            tag = "mi"
        out = f"<msub>{out}<{tag}>{below}</{tag}></msub>"
    if re.match(r"'(?![A-Za-z])", reader.text[reader.at : reader.at + 2]):
        reader.at += 1
        out = f"<msup>{out}<mo>′</mo></msup>"
    return out
