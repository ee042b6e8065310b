"""What commands print: results on stdout, talk and errors on stderr, readable at 80 columns and in a log file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gramian.errors import BadArgument, GramianError

if TYPE_CHECKING:
    from gramian.checker import Line

INTERRUPTED = 130  # exit code: 128 + SIGINT, as shells have it
GAP = 2  # columns between those of a table
WORDS = 2  # columns of a table that hold words: a name and a verdict
PROSE = 100  # columns; longer lines are hard to read
STATUS = {  # a sign and a style each
    "reached, proved": ("✓", "bold green"),
    "reached, implied": ("✓", "bold green"),
    "reached, implied up to constants": ("✓", "bold green"),
    "reached, observed": ("✓", "bold cyan"),
    "not reached, observed": ("✗", "bold yellow"),
    "impossible, implied": ("✗", "bold red"),
    "proved": ("✓", "bold green"),
    "not proved": ("✗", "bold yellow"),
    "holds": ("✓", "bold green"),
    "differs": ("≠", "bold yellow"),
    "valid": ("✓", "bold green"),
    "not valid": ("✗", "bold red"),
    "implied": ("✓", "bold green"),
    "implied up to constants": ("✓", "bold green"),
    "observed": ("•", "bold cyan"),
    "not shown": ("–", "bold yellow"),
    "CONTRADICTED": ("✗", "bold red"),
}


class Interrupted(Exception):
    """Ctrl-C before there was anything to write."""


def out() -> Console:
    """The console of results."""
    return Console(highlight=False, emoji=False)


def err() -> Console:
    """The console of talk."""
    return Console(stderr=True, highlight=False, emoji=False)


def talk(text: str, style: str = "") -> None:
    """A line of talk."""
    console = err()
    console.print(Text(text, style), soft_wrap=not console.is_terminal)


def warn(text: str) -> None:
    """A warning, as talk."""
    console = err()
    if console.is_terminal:
        console.print(_hanging([(Text("note", "yellow"), Text(text))], console))
    else:
        console.print(Text(f"note: {text}"), soft_wrap=True)


def show_error(error: GramianError) -> None:
    """An error's four parts; in a file or a pipe without wrapping, so that paths stay whole."""
    console = err()
    if not console.is_terminal:
        console.print(Text(f"error: {error}"), soft_wrap=True)
        return
    parts = [(Text("error", "bold red"), Text(error.what, "bold"))]
    for name, text, style in (("where", error.where, ""), ("why", error.why, ""), ("fix", error.fix, "green")):
        if text:
            parts.append((Text(name, "dim"), Text(text, style)))
    console.print(_hanging(parts, console))


def out_of_memory(error: MemoryError | RuntimeError) -> GramianError:
    """The four-part form of "no memory left" of Python, of torch on a CPU and of CUDA; any other error goes on."""
    text = str(error)
    known = "can't allocate memory" in text or type(error).__name__ == "OutOfMemoryError"
    if not (isinstance(error, MemoryError) or known):
        raise error
    return BadArgument(
        f"out of memory: {text.splitlines()[0] if text else 'no more can be had'}",
        where="this machine's memory, or the device's",
        why="a kernel of n rows is n x n numbers, and so are its factors",
        fix="fewer rows (--n); `gramian certify` and `gramian kernel` also have --dtype float32",
    )


def rows(pairs: Iterable[tuple[str, object]], console: Console) -> None:
    """Names and values, a line each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    console.print(table)


def table(items: Sequence[Mapping[str, str]], console: Console) -> None:
    """Rows with equal keys: a line each where they fit, else (a narrow terminal) a column each, names at the left."""
    widths = _widths(items, console.width)
    if widths is not None:
        wide = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
        for number, (name, width) in enumerate(zip(items[0], widths, strict=True)):
            wide.add_column(name, justify="left" if number < WORDS else "right", width=width)
        for item in items:
            wide.add_row(*(_cell(name, text) for name, text in item.items()))
        console.print(wide)
        return
    first, *others = list(items[0])
    room = (console.width - max(map(len, others))) // len(items) - GAP
    least = max(len(item[name]) for item in items for name in others[WORDS - 1 :])  # numbers stay whole
    tall = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0), show_header=len(items) > 1
    )
    tall.add_column("", style="dim", no_wrap=True)
    for item in items:
        tall.add_column(item[first], overflow="fold", min_width=min(least, room))
    for name in [first, *others] if len(items) == 1 else others:
        tall.add_row(name, *(_cell(name, item[name]) for item in items))
    console.print(tall)


def _widths(items: Sequence[Mapping[str, str]], available: int) -> list[int] | None:
    """Column widths of the wide form: words may wrap into two lines, numbers not; None if there is no room."""
    words, numbers = [], []
    for number, name in enumerate(items[0]):
        cells = [_cell(name, item[name]).plain for item in items]
        longest = max(map(len, cells))
        if number < WORDS:
            word = max(len(part) for cell in [name, *cells] for part in cell.split())
            words.append((min(longest, max(longest // 2 + 5, word)), max(longest, len(name))))
        else:
            numbers.append(max(longest, *(len(part) for part in name.split())))
    room = available - sum(numbers) - GAP * (len(items[0]) - 1)
    if room < sum(least for least, _ in words):
        return None
    widths = []
    for number, (_, most) in enumerate(words):
        later = sum(least for least, _ in words[number + 1 :])
        widths.append(min(most, room - later))
        room -= widths[-1]
    return widths + numbers


def inequalities(lines: Iterable[Line], console: Console) -> None:
    """What the checker computed: a sentence, two numbers, and whether it holds."""
    for line in lines:
        numbers = f"{line.left:.3g} {line.sense} {line.right:.3g}"
        if math.isnan(line.right):
            numbers = f"{line.left:.3g} could not be proved"
        sign, style = ("✓", "green") if line.holds else ("✗", "bold red")
        listed([(Text(sign, style), Text(f"{line.says}: {numbers}"))], console)


def prose(sentences: Iterable[str], console: Console, *, indent: int = 2) -> None:
    """Sentences, each on a line of its own, not wider than people read."""
    for sentence in sentences:
        console.print(Padding(Text(sentence), (0, 0, 0, indent)), width=min(console.width, PROSE))


def listed(pairs: Sequence[tuple[Text, Text]], console: Console, *, indent: int = 2) -> None:
    """A mark and a text a line; what does not fit goes on below the text."""
    console.print(Padding(_grid(pairs), (0, 0, 0, indent)))


def written(files: Sequence[tuple[str, object]], console: Console) -> None:
    """Where results lie; not wrapped, so that a path can be copied."""
    for name, path in files:
        console.print(Text.assemble((f"{name}  ", "dim"), str(path)), soft_wrap=True)


def mark(holds: bool | None) -> Text:
    """A sign for a condition: it holds, it fails, it is not known."""
    sign, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "yellow")}[holds]
    return Text(sign, style)


def heading(text: str) -> Text:
    """The name of a section."""
    return Text(text, "bold")


def status(text: str) -> Text:
    """A certificate's status with its sign."""
    sign, style = STATUS.get(text, ("?", ""))
    return Text(f"{sign} {text}", style)


def _cell(name: str, text: str) -> Text:
    if name == "Verdict" and text in STATUS:
        return status(text)
    return Text(text)


def _hanging(pairs: Sequence[tuple[Text, Text]], console: Console) -> Padding:
    return Padding(_grid(pairs), (0, max(0, console.width - PROSE), 0, 0))


def _grid(pairs: Sequence[tuple[Text, Text]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for mark, text in pairs:
        grid.add_row(mark, text)
    return grid
