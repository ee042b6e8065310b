"""The answer in the terminal, from the same plain facts as the report: a table, the sentences, the certificates."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from gramian.cli import show
from gramian.report import summary_rows
from gramian.report.margins import tightest
from gramian.report.numbers import prose

STATUS_COLUMNS = 2 + 26  # the indent, and "✓ implied up to constants "


def print_answer(facts: dict[str, Any], console: Console) -> None:
    """One table with a row a network, then for each network its three sentences, certificates and warnings."""
    console.print(Text(str(facts["title"]), "bold"))
    console.print()
    show.table(summary_rows(facts), console)
    for run in facts["runs"]:
        console.print()
        console.print(Text(str(run["title"]), "bold"))
        show.prose((prose(sentence) for sentence in run["answer"]), console)
        for line in _to_paste(run):
            console.print(Text("    " + line), soft_wrap=True)
        certificates = [(show.status(one["status"]), _theorem(one, console)) for one in run.get("certificates") or []]
        if certificates:
            console.print()
            show.listed(certificates, console)
        bounds = [(Text("bound", "cyan"), Text(_bound(bound))) for bound in run.get("bounds") or []]
        if bounds:
            console.print()
            show.listed(bounds, console)
        warnings = [(Text("note", "yellow"), Text(prose(warning))) for warning in run.get("warnings") or []]
        if warnings:
            console.print()
            show.listed(warnings, console)
    console.print()


def _theorem(certificate: dict[str, Any], console: Console) -> Text:
    """A theorem's name, its reference if both fit into a line; of a proof the inequality that decides it."""
    name, reference = str(certificate["theorem"]), str(certificate.get("reference") or "")
    text = Text(name)
    if STATUS_COLUMNS + len(name) + 2 + len(reference) <= console.width:
        text.append(f"  {reference}", "dim")
    deciding = tightest(certificate.get("margins") or [])
    if deciding:
        text.append(f"\n{prose(deciding)}", "dim")
    return text


def _bound(bound: dict[str, Any]) -> str:
    """A bound of the error on new samples, in a sentence."""
    said = f"at most {bound['value']:.3g}"
    if bound["vacuous"]:
        said = f"vacuous ({bound['value']:.3g}: guessing is promised to be as good)"
    text = f"{bound['name']}: the error of {bound['of']} on new samples is {said}, with probability "
    text += f"{bound['probability']:g}, if the rows are independent draws"
    if bound["test_error"] is not None:
        text += f"; on the test rows it is {bound['test_error']:.3g}"
    return f"{text}."


def _to_paste(run: dict[str, Any]) -> list[str]:
    """The optimizer's line for a loop in plain torch, whole, so that it can be pasted."""
    rate = (run.get("loss") or {}).get("torch") or {}
    if rate.get("line"):
        return [rate["line"]]
    return []
