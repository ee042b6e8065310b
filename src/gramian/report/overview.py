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
        A row each run: Network, Verdict, Loss / best constant's, Training accuracy (or R²), Steps, Learning rate (and
        the largest stable one, both for the loss as people write it), Width, Useful width, and test errors: of classes
        the share of wrong rows (and the balanced accuracy where classes are imbalanced), of real targets RMSE in their
        own unit and R². All values are strings, all rows have the same keys.

    Example:
        >>> facts = {"runs": [{"title": "MLP", "status": "reached, observed", "loss": {"lr": 0.1, "lr_max": 0.4}}]}
        >>> [row] = summary_rows(facts)
        >>> row["Verdict"], row["Learning rate / largest"], row["Steps"]
        ('reached, observed', '0.1 / 0.4', 'not measured')
    """
    whole = complete(facts)
    return [row(run, whole["data"]) for run in whole["runs"]]


def row(run: dict, data: dict | None = None) -> dict[str, str]:
    """The overview's row of one complete run; of a watched loop, only what was measured."""
    data = data or {}
    regression = data.get("task") == "regression"
    if regression:
        fit = _training_fit(run)
    else:
        fit = {"Training accuracy": percent(last(run["accuracy"]["train"]))}
    steps = run["goal"]["steps"]
    if steps is None:
        steps = steps_taken(run["loss"]["steps"])
    cells = {
        "Network": str(run["title"]),
        "Verdict": str(run["status"]),
        "Loss / best constant's": percent(run["goal"]["share"]),
        **fit,
        "Steps": number(steps),
        "Learning rate / largest": _learning_rate(run["loss"]),
        "Width": number(run["width"]["run_width"]),
        "Useful width": run["width"]["useful_words"] or number(run["width"]["useful_width"]),
    }
    if data.get("n_test") != 0:
        cells |= _test(run, data, regression)
    if run["status"] != WATCHED:
        return cells
    return {name: text for name, text in cells.items() if text != NOT_MEASURED}


def _training_fit(run: dict) -> dict[str, str]:
    return {"Training R²": number((run["scores"]["train"] or {}).get("r2"))}


def _test(run: dict, data: dict, regression: bool) -> dict[str, str]:
    """Test errors of the network and of the kernel's predictor."""
    network, kernel = run["scores"]["test"] or {}, run["scores"]["kernel"] or {}
    if regression:
        return {
            "Test RMSE": _rmse(network),
            "Test R²": number(network.get("r2")),
            "Kernel's test RMSE": _rmse(kernel),
            "Kernel's test R²": number(kernel.get("r2")),
        }
    errors = {
        "Test error": percent(last(run["test"]["network_error"])),
        "Kernel's test error": percent(run["test"]["kernel_error"]),
    }
    if data.get("imbalanced"):
        rate, of_constant = (data.get("base_rate") or {}).get("test"), NOT_MEASURED
        if rate is not None:
            of_constant = percent(1 - rate)
        errors |= {
            "Constant's test error": of_constant,
            "Balanced test accuracy": percent(network.get("balanced_accuracy")),
        }
    return errors


def _rmse(scores: dict) -> str:
    """RMSE of each target in its own unit, at most three of them."""
    errors = scores.get("rmse") or []
    if not errors:
        return NOT_MEASURED
    shown = ", ".join(number(v) for v in errors[:3])
    if len(errors) > 3:
        return f"{shown}, ..."
    return shown


def _learning_rate(loss: dict) -> str:
    torch_loop = loss["torch"] or loss
    lr, largest = torch_loop["lr"], torch_loop["lr_max"]
    if missing(lr) or missing(largest):
        return number(lr)
    return f"{number(lr)} / {number(largest)}"
