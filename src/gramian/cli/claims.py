"""The commands of `gramian claims`: the papers as checked claims. Each calls one function of `gramian.claims`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from gramian.cli import options as opt
from gramian.cli import show
from gramian.errors import BadArgument

if TYPE_CHECKING:
    from collections.abc import Callable

    from gramian.claims import Claim, Effect, Outcome
    from gramian.claims.runner import Progress
    from gramian.conditions import Condition

LEDGER = Path("gramian-claims.jsonl")
SCALES = ("smoke", "paper", "tiny")

app = typer.Typer(
    name="claims",
    help="The papers as checked claims: what they state, measured and judged. In Python: gramian.claims.run()",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY...", help="Claims, or papers: see gramian claims list.", show_default=False),
]
Scale = Annotated[
    str,
    typer.Option(
        metavar="|".join(SCALES),
        help="smoke: under a minute a claim, needs no data; paper: the paper's sizes, or the largest possible.",
    ),
]
LedgerFile = Annotated[
    Path, typer.Option("--ledger", metavar="FILE", help="Finished measurements: a killed run goes on from there.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout in place of tables.")]


@app.command("list")
def list_claims(as_json: Json = False) -> None:
    """Every claim, with its verdict on record.

    In Python: gramian.claims.CLAIMS
    """
    from gramian.claims import CLAIMS
    from gramian.claims.outcomes import record

    if as_json:
        _print_json([_words(claim) | {"recorded": record().get(claim.key, {})} for claim in CLAIMS.values()])
        return
    console = show.out()
    for claim in CLAIMS.values():
        recorded = ", ".join(f"{status} ({scale})" for scale, status in record().get(claim.key, {}).items())
        console.print(show.heading(f"{claim.key}  {recorded or 'nothing on record'}"))
        show.prose([claim.says, f"{claim.paper.authors} {claim.paper.year}, arXiv:{claim.paper.arxiv}"], console)


@app.command("run")
def run_claims(
    keys: Keys = None,
    all_claims: Annotated[bool, typer.Option("--all", help="All claims.")] = False,
    scale: Scale = "smoke",
    jobs: Annotated[int, typer.Option(metavar="INT", help="Processes, of one thread each.")] = 1,
    seeds: Annotated[int, typer.Option(metavar="INT", help="Seeds a claim; the verdict is over all.")] = 5,
    ledger: LedgerFile = LEDGER,
    data_dir: opt.DataDir = None,
    as_json: Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measures and judges claims; what the ledger has already is not measured again.

    Exit code 0: every verdict is as on record; 1: one falls short of it; 2: an error.

    In Python: gramian.claims.run("arora2019fine", jobs=2, ledger="gramian-claims.jsonl")
    """
    from gramian.claims import Ledger, run

    opt.one_of("--scale", scale, SCALES)
    opt.whole("--jobs", jobs)
    opt.whole("--seeds", seeds)
    if all_claims == bool(keys):
        raise BadArgument(
            "which claims to run was not said, or said twice.",
            where="gramian claims run",
            why="keys name some of them, --all takes all",
            fix="gramian claims run --all, or a key of gramian claims list",
        )
    kept = Ledger(ledger)
    if kept.dropped and not quiet:
        show.warn(f"{ledger}: {kept.dropped} line(s) that are not whole, as a killed run leaves them, were dropped.")
    judged = run(
        tuple(keys or ()), scale=scale, seeds=seeds, jobs=jobs, ledger=kept, data_dir=data_dir, news=_news(quiet)
    )
    _print(judged, as_json)
    if not as_json:
        show.written([("ledger", ledger)], show.out())
    raise typer.Exit(int(any(one.falls_short for one in judged)))


@app.command("show")
def show_claims(keys: Keys = None, ledger: LedgerFile = LEDGER, as_json: Json = False) -> None:
    """What a ledger says of claims: verdicts, conditions, sizes with intervals. Nothing is measured.

    Without a ledger of your own, the one that ships with gramian is shown.

    In Python: gramian.claims.outcomes(gramian.claims.Ledger("gramian-claims.jsonl"), gramian.claims.chosen())
    """
    _print(_judged(keys, ledger), as_json)


@app.command("gallery")
def write_gallery(
    out: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where index.html and a page a paper are written.", show_default=False),
    ],
    ledger: LedgerFile = LEDGER,
) -> None:
    """Pages to open in a browser, made from a ledger alone: statements, figures, numbers, controls, code.

    Without a ledger of your own, of the measurements that ship with gramian.

    In Python: gramian.claims.write_gallery("gallery", "gramian-claims.jsonl")
    """
    from gramian.claims import Ledger
    from gramian.claims import write_gallery as written

    index = written(out, Ledger(_existing(ledger)))
    show.written([("gallery", index)], show.out())


def _judged(keys: list[str] | None, ledger: Path) -> list[Outcome]:
    from gramian.claims import Ledger, chosen, outcomes
    from gramian.claims.claim import SCALES as ALL_SCALES

    return outcomes(Ledger(_existing(ledger)), chosen(tuple(keys or ())), ALL_SCALES)


def _existing(ledger: Path) -> Path:
    """The ledger, or the one that ships with gramian where none was named and there is none here."""
    from gramian.claims.ledger import SHIPPED

    if not ledger.exists():
        if ledger != LEDGER:
            raise BadArgument(
                f"no ledger {ledger}.",
                where=str(ledger.absolute()),
                why="another folder, or nothing was measured yet",
                fix="gramian claims run --all",
            )
        show.talk(f"No {LEDGER} here: this is what ships with gramian.")
        return SHIPPED
    return ledger


def _news(quiet: bool) -> Callable[[Progress], None] | None:
    """What is said after each measurement: a line on stderr with the time that is left."""
    from gramian.report.numbers import duration

    def tell(progress: Progress) -> None:
        left = ""
        if progress.seconds_left:
            left = f", about {duration(progress.seconds_left)} left"
        show.talk(f"{progress.done} of {progress.total}: {progress.last}{left}")

    if quiet:
        return None
    return tell


def _print(judged: list[Outcome], as_json: bool) -> None:
    if as_json:
        _print_json([one.to_dict() for one in judged])
        return
    if not judged:
        show.talk("Nothing of this was measured.")
    for one in judged:
        _print_one(one)


def _print_one(one: Outcome) -> None:
    from gramian.claims import CLAIMS

    console, verdict = show.out(), one.verdict
    console.print(show.heading(f"{one.claim} at scale {one.scale}"))
    console.print(show.status(verdict.status))
    show.prose([CLAIMS[one.claim].says, f"{verdict.agreed} of {verdict.seeds} seeds agree."], console)
    show.listed([(show.mark(condition.holds), Text(_asked(condition))) for condition in verdict.conditions], console)
    show.rows([(effect.says, _sized(effect)) for effect in verdict.effects], console)
    if one.control is not None:
        show.prose([f"With the broken premise: {one.control.status}. {CLAIMS[one.claim].broken.says}"], console)
    show.prose([f"What would change it: {verdict.says}"], console)
    if one.falls_short:
        show.warn(f"falls short of the record: {one.recorded or 'it holds without its premise'}")
    console.print()


def _asked(condition: Condition) -> str:
    facts = condition.to_dict()
    return f"{facts['says']}: needs {facts['needs']}, has {facts['has'] or 'not measured'}"


def _sized(effect: Effect) -> str:
    from gramian.report.gallery import sized
    from gramian.report.numbers import number

    words = sized(vars(effect))
    if effect.other is not None:
        words += f"; {number(effect.other)} {effect.source}"
    return words


def _words(claim: Claim) -> dict[str, Any]:
    return {"claim": claim.key, "paper": vars(claim.paper), "says": claim.says}


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
