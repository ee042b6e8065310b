"""`gramian report`: the HTML file again, from its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gramian.cli import show
from gramian.errors import BadArgument, BadData


def report(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER|report.json", help="What gramian certify wrote.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to write (default: where the JSON file lies).", show_default=False),
    ] = None,
) -> None:
    """Makes report.html again from report.json, and prints its answer.

    In Python: gramian.report.write(json.load(open("gramian-report/report.json")), "gramian-report")
    """
    from gramian.cli.printed_answer import print_answer
    from gramian.report import write

    if source.is_dir():
        path = source / "report.json"
    else:
        path = source
    facts = read_facts(path)
    html, _ = write(facts, out if out is not None else path.parent)
    console = show.out()
    print_answer(facts, console)
    show.written([("report", html)], console)


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a report.json.

    Raises:
        BadArgument: there is no such file.
        BadData: it is no JSON, or not what `gramian certify` writes.
    """
    from gramian.report.facts import SCHEMA

    again = "`gramian certify` writes both files anew."
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadArgument(
            f"cannot read {path}: {error.strerror}.",
            where=str(path.absolute()),
            why="another folder, or no report was written there.",
            fix="gramian report FOLDER, the folder that `gramian certify` named in its last line.",
        ) from None
    except UnicodeDecodeError:
        raise BadData(f"{path} is no text.", where=str(path), why="another file was meant.", fix=again) from None
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, column {error.colno}"
        why = "it is truncated or was edited by hand."
        raise BadData(f"{path} is no JSON: {error.msg}.", where=where, why=why, fix=again) from None
    if isinstance(facts, dict):
        runs = facts.get("runs")
    else:
        runs = None
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise BadData(
            f"{path} holds no runs.", where=str(path), why="it is JSON, but not a report of gramian's.", fix=again
        )
    if facts.get("schema") != SCHEMA:
        # reports up to schema 2 call this block "made"
        origin = runs[0].get("origin", runs[0].get("made"))
        if isinstance(origin, dict):
            command = origin.get("command")
        else:
            command = None
        raise BadData(
            f"{path} has schema {facts.get('schema')}; this version reads {SCHEMA}.",
            where=f"{path}, schema",
            why="another version of gramian wrote it, with other numbers in it.",
            fix=f"`{command}`, which made it, writes both files anew." if command else again,
        )
    return facts
