"""The overview: one row a network, as plain strings, for the report and for the terminal."""

from __future__ import annotations

from gramian.report.blocks import complete
from gramian.report.numbers import NOT_MEASURED, last, missing, number, percent, steps_taken

WATCHED = "watched"  # status of a loop of the user's own


def summary_rows(facts: dict) -> list[dict[str, str]]:
    """One row a network with the numbers that decide; keys are the column titles, in the order to print them.

    Args:
        facts: the plain dict that `certify` makes; anything missing reads "not measured".

    Returns:
        A row each run: Network, Verdict, Training accuracy, Steps, Learning rate (and the largest stable one), Width,
        Useful width, Test error, Kernel's test error. All values are strings, all rows have the same keys.

    Example:
        >>> facts = {"runs": [{"title": "MLP", "status": "implied", "loss": {"lr": 0.1, "lr_max": 0.4}}]}
        >>> [row] = summary_rows(facts)
        >>> row["Verdict"], row["Learning rate / largest"], row["Steps"]
        ('implied', '0.1 / 0.4', 'not measured')
    """
    return [row(run) for run in complete(facts)["runs"]]


def row(run: dict) -> dict[str, str]:
    """The overview's row of one complete run; of a watched loop, only what was measured."""
    made = {
        "Network": str(run["title"]),
        "Verdict": str(run["status"]),
        "Training accuracy": percent(last(run["accuracy"]["train"])),
        "Steps": number(steps_taken(run["loss"]["steps"])),
        "Learning rate / largest": _learning_rate(run["loss"]),
        "Width": number(run["width"]["run_width"]),
        "Useful width": number(run["width"]["useful_width"]),
        "Test error": percent(last(run["test"]["network_error"])),
        "Kernel's test error": percent(run["test"]["kernel_error"]),
    }
    return made if run["status"] != WATCHED else {name: text for name, text in made.items() if text != NOT_MEASURED}


def _learning_rate(loss: dict) -> str:
    lr, largest = loss["lr"], loss["lr_max"]
    return number(lr) if missing(lr) or missing(largest) else f"{number(lr)} / {number(largest)}"
