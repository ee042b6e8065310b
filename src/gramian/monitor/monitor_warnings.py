"""The warnings of a monitor: what it cannot do, once, in four parts, and that the training goes on."""

from __future__ import annotations

import warnings

from gramian.errors import GramianError, message

MOST_PROBES_NAMED = 4  # probes that a warning names
CHANGE = "the error tells what to change; monitor.step goes on counting"
KEPT = "what was measured before is kept; the error tells what to change"


def tell_failed(failed: list[tuple[str, Exception]], step: int) -> None:
    """One warning for all that failed in one measurement; the reason is the first one's."""
    names = [name for name, _ in failed]
    if len(names) > MOST_PROBES_NAMED:
        more = f" and {len(names) - MOST_PROBES_NAMED} more"
    else:
        more = ""
    many = len(names) > 1
    said = ", ".join(names[:MOST_PROBES_NAMED]) + more
    error = failed[0][1]
    tell(
        f"{said} failed at step {step} and {'are' if many else 'is'} left out from here on; the training goes on.",
        where="gramian.Monitor",
        why=reason(error),
        fix=getattr(error, "fix", "") or KEPT,
    )


def tell(what: str, *, where: str, why: str, fix: str) -> None:
    """A warning in four parts."""
    warnings.warn(message(what, where=where, why=why, fix=fix), RuntimeWarning, stacklevel=2)


def reason(error: BaseException) -> str:
    """The first line of an error, with its kind where it is not one of ours."""
    said = (str(error).strip().splitlines() or ["no text"])[0]
    if isinstance(error, GramianError):
        return said
    return f"{type(error).__name__}: {said}"
