"""The sentence below each picture: the two or three numbers that matter, in words."""

from __future__ import annotations

import math
from collections.abc import Callable

from gramian.report.numbers import NOT_MEASURED, count, fold, last, missing, number, percent, steps_taken


def loss(block: dict) -> str:
    """How far the loss fell, in how many steps, and how far off the predictions were on the way."""
    steps, measured = block["steps"] or [], block["measured"] or []
    points = [(s, v) for s, v in zip(steps, measured, strict=False) if _finite(v)]
    if len(points) < 2 or points[0][1] <= 0:
        return _sentence("The training loss was " + NOT_MEASURED)
    (_, first), (end, final) = points[0], points[-1]
    left = next((s for s, v in zip(steps, measured, strict=False) if v is not None and not math.isfinite(v)), None)
    if left is not None:
        return f"The loss left the range of floating-point numbers at step {number(left)}: training diverged."
    reached = hundredfold(block)
    until, where = end, ""
    if final > first:
        said = f"The loss grew {fold(final / first)} in {count(end, 'step')}"
    elif reached is None:
        said = f"The loss fell {fold(first / final)} in {count(end, 'step')}"
    else:
        said, until = f"The loss fell 100-fold in {count(reached, 'step')}", reached
        if final < first / 150:
            said += f" and {fold(first / final) if final else 'to 0'} in all {number(end)}"
            where = f"up to step {number(until)}, "
    named = {"predicted": "the limit's prediction", "predicted_initial": "the initial kernel's"}
    gaps = [(name, _largest_gap(steps, measured, block[key] or [], until)) for key, name in named.items()]
    offs = [f"{name} was off by at most {gap}" for name, gap in gaps if gap]
    if not offs:
        return _sentence(said)
    return _sentence(f"{said}; {where}{' and '.join(offs)}")


def hundredfold(block: dict) -> int | None:
    """The first step at which the loss is a hundredth of its first value, or None."""
    pairs = [(s, v) for s, v in zip(block["steps"] or [], block["measured"] or [], strict=False) if _finite(v)]
    return next((s for s, v in pairs if v <= pairs[0][1] / 100), None)


def spectrum(block: dict) -> str:
    """The smallest eigenvalue of each kernel, the condition number, and what a log axis cannot show."""
    named = [("limit", "in the limit"), ("initial", "at initialization"), ("final", "after training")]
    have = [(when, [v for v in block[key] if _finite(v)]) for key, when in named if block[key]]
    have = [(when, values) for when, values in have if values]
    if not have:
        return _sentence("The eigenvalues were " + NOT_MEASURED)
    said = "The smallest eigenvalue is " + ", ".join(f"{number(min(values))} {when}" for when, values in have)
    when, values = have[0]
    if min(values) > 0:
        said += f"; the condition number is {number(max(values) / min(values))} {when}"
    hidden = [f"{count(n, 'eigenvalue')} {when}" for when, values in have if (n := sum(v <= 0 for v in values))]
    if hidden:
        said += f"; not drawn, because zero or negative: {', '.join(hidden)}"
    return _sentence(said)


def moved(block: dict) -> str:
    """The layer that moved most, the signs that flipped, the kernel's drift, at the last measured step."""
    parts = []
    rows = [row for row in block["distance"] or [] if row]
    if rows and (
        far := _weights_first(
            [(d, name) for d, name in zip(rows[-1], block["layers"] or [], strict=False) if _finite(d)]
        )
    ):
        distance, name = max(far, key=lambda pair: pair[0])
        if distance < 10:
            how = percent(distance) + " of"
        else:
            how = fold(distance)
        parts.append(f"layer {name} moved most, {how} its initial norm")
    rows = [row for row in block["flips"] or [] if row]
    if rows and (shares := [s for s in rows[-1] if _finite(s)]):
        parts.append(f"at most {percent(max(shares))} of a layer's activation signs flipped")
    drift = last(block["drift"])
    if drift is not None:
        most, end = (_of_initial_norm(v) for v in (max(v for v in block["drift"] if _finite(v)), drift))
        if most == end:
            parts.append(f"the kernel drifted by {end}")
        else:
            parts.append(f"the kernel drifted by at most {most}, and by {end} in the end")
    if not parts:
        return _sentence("What moved was " + NOT_MEASURED)
    return _sentence("; ".join(parts))


def _of_initial_norm(drift: float) -> str:
    if drift < 10:
        return percent(drift)
    return fold(drift) + " its initial norm"


def _weights_first(far: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Without biases, if there is anything else: they start near zero, and any way is many times that."""
    return [pair for pair in far if not pair[1].endswith("bias")] or far


def test_error(block: dict) -> str:
    """The last test error of the network beside the kernel predictor's."""
    mine, kernel = last(block["network_error"]), block["kernel_error"]
    write: Callable[[float], str]
    if in_own_unit(block):
        write, name = number, "test RMSE"
    else:
        write, name = percent, "test error"
    if mine is None and missing(kernel):
        return _sentence("The test error was " + NOT_MEASURED)
    if mine is None:
        return f"The kernel predictor's {name} is {write(kernel)}; the network's was {NOT_MEASURED}."
    said = f"The trained network's {name} is {write(mine)}"
    if not missing(kernel):
        said += f", the kernel predictor's {write(kernel)}"
    return _sentence(said)


def in_own_unit(block: dict) -> bool:
    """Whether test errors are RMSE in the targets' unit, and no shares of wrong rows."""
    return block["unit"] == "RMSE"


test_error.__test__ = False  # type: ignore[attr-defined]  # pytest: a sentence, not a test


def accuracy(block: dict) -> str:
    """The last accuracy on training and test points."""
    train, test = last(block["train"]), last(block["test"])
    steps = count(steps_taken(block["steps"]), "step")
    parts = [f"{percent(v)} on the {what} points" for v, what in ((train, "training"), (test, "test")) if v is not None]
    if not parts:
        return _sentence("The accuracy was " + NOT_MEASURED)
    return _sentence(f"After {steps}: {', '.join(parts)}")


def width(block: dict) -> str:
    """How fast the finite kernel approaches its limit, from which width on it is close, and where this run stands."""
    slope, useful, mine = block["slope"], block["useful_width"], block["run_width"]
    if missing(slope) and missing(useful):
        return _sentence("The width sweep was " + NOT_MEASURED)
    parts = []
    if not missing(slope):
        parts.append(f"The kernel's error shrinks like width to the power {number(slope, 2)} (theory: −0.5).")
    if not missing(useful):
        if missing(block["tolerance"]):
            goal = ""
        else:
            goal = f" to be below {percent(block['tolerance'])}"
        parts.append(f"It is expected{goal} from width {block['useful_words'] or number(useful)} on.")
    if not missing(mine):
        if missing(block["run_error"]):
            error = ""
        else:
            error = f" (error {percent(block['run_error'])})"
        where = {True: " is in this regime", False: " is not yet there"}.get(block["in_regime"], " is drawn beside it")
        parts.append(f"This run's width {number(mine)}{error}{where}.")
    return " ".join(parts)


def probe(block: dict) -> str:
    """First and last value of a further curve, and whether it stayed between its bounds."""
    values = [v for v in block["values"] or [] if _finite(v)]
    if not values:
        return _sentence(NOT_MEASURED)
    share = block["unit"] == "share"
    write: Callable[[float], str]
    if share:
        write = percent
    else:
        write = number
    if block["unit"] and not share:
        unit = f" {block['unit']}"
    else:
        unit = ""
    said = f"From {write(values[0])} to {write(values[-1])}{unit}"
    if len(values) > 2 and min(values) < min(values[0], values[-1]):
        said += f", smallest {write(min(values))}"
    if len(values) > 2 and max(values) > max(values[0], values[-1]):
        said += f", largest {write(max(values))}"
    outside = [crossed(block, key) for key in ("lower", "upper") if block[key]]
    if outside:
        if not sum(outside):
            said += "; always within its bounds"
        else:
            said += f"; outside its bounds {sum(outside)} times"
    return _sentence(said)


def crossed(block: dict, key: str) -> int:
    """At how many steps a probe is beyond its "lower" or "upper" bound."""
    if key == "upper":
        sign = 1
    else:
        sign = -1
    pairs = zip(block["values"] or [], block[key] or [], strict=False)
    return sum(sign * v > sign * bound for v, bound in pairs if _finite(v) and _finite(bound))


def _largest_gap(steps: list, measured: list, predicted: list, until: int) -> str:
    """The largest relative error of a prediction up to a step; a factor where it is more than 100 %; "" if unknown."""
    pairs = [
        (m, p)
        for s, m, p in zip(steps, measured, predicted, strict=False)
        if s <= until and _finite(m) and _finite(p) and m > 0
    ]
    if not pairs:
        return ""
    gap = max(abs(p - m) / m for m, p in pairs)
    if gap <= 1:
        return percent(gap, 2)
    factor = max(p / m for m, p in pairs)
    if not math.isfinite(factor):
        return f"a factor of more than {number(1e300)}"
    return f"a factor of {number(factor, 2)}"


def _finite(value) -> bool:
    return value is not None and math.isfinite(value)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
