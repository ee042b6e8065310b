"""`gramian check`: every inequality of a certificate, recomputed by the independent checker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gramian.cli import show


def check(
    certificate: Annotated[
        Path, typer.Argument(metavar="FILE", help="What gramian prove --out wrote.", show_default=False)
    ],
) -> None:
    """Recomputes every inequality of a certificate, with bounds of all rounding errors. It loads no torch.

    Exit code 0: valid; 1: an inequality fails; 2: no certificate, or changed since it was written.

    In Python: gramian.prove.check(path)
    """
    from gramian.checker import check as recomputed

    result = recomputed(certificate)
    console = show.out()
    console.print(show.status("valid" if result.valid else "not valid"))
    show.prose([result.says if result.valid else f"It claims: {result.says}"], console)
    console.print()
    show.inequalities(result.lines, console)
    console.print()
    show.prose([f"Assumed: {text}." for text in result.assumes], console)
    raise typer.Exit(0 if result.valid else 1)
