"""`gramian`: the commands, and the one place where errors become text and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from inspect import getdoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gramian.cli.certify import certify
from gramian.cli.check import check
from gramian.cli.claims import app as claims
from gramian.cli.doctor import doctor
from gramian.cli.fit import fit
from gramian.cli.interrupt_watch import watch
from gramian.cli.kernel import kernel
from gramian.cli.predict import predict
from gramian.cli.prove import prove
from gramian.cli.report import report
from gramian.cli.show import INTERRUPTED, Interrupted, out_of_memory, show_error, talk
from gramian.errors import GramianError


class Commands(TyperGroup):
    """Runs a command; prints our errors in their four parts, without a traceback, and exits 2."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Keeps the words that were typed, for the report: parsing consumes them."""
        return super().make_context(info_name, args, parent, obj=["gramian", *args], **extra)

    def invoke(self, ctx: Any) -> Any:
        """The exit codes: 2 is an error, 130 an interruption before there was anything to write."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):  # RuntimeErrors by birth
            raise
        except GramianError as error:
            show_error(error)
        except (MemoryError, RuntimeError) as error:
            show_error(out_of_memory(error))
        except (KeyboardInterrupt, Interrupted):
            talk("Interrupted before anything was measured: nothing was written.")
            raise typer.Exit(INTERRUPTED) from None
        raise typer.Exit(2)


app = typer.Typer(
    cls=Commands,
    name="gramian",
    help="Will gradient descent find the global minimum? How fast, at which learning rate, and why do we know?",
    epilog='Begin with: gramian certify --data digits --net mlp. In Python: "import gramian".',
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for command in (certify, prove, check, kernel, fit, predict, report, doctor):
    # wrapped by the terminal's width, not by ours
    paragraphs = (getdoc(command) or "").split("\n\n")
    app.command(help="\n\n".join(" ".join(text.split()) for text in paragraphs))(command)
app.add_typer(claims)


def _version(asked: bool) -> None:
    if asked:
        from gramian.version import __version__

        typer.echo(f"gramian {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Will gradient descent find the global minimum? How fast, at which learning rate, and why do we know?"""


def main() -> None:
    """Entry of the command `gramian`; a terminal that cannot print a sign gets a question mark, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    # Before torch is loaded: OpenMP's threads wait asleep, not spinning. On two cores that other processes use too, 300
    # steps of a ResNet took 33 s so, and 134 s otherwise; on an idle machine there is no difference.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    watch()
    try:
        app()
    except SystemExit as done:
        # once an `exec` was interrupted, Python would end itself with SIGINT instead
        if done.code == INTERRUPTED:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(INTERRUPTED)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done and written
        raise
