"""The facts with every block in its place: what certify left out becomes None, so that the page has one shape."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from gramian.report.facts import ReportFacts


def complete(facts: dict) -> dict:
    """A copy of the facts in which every key that the page reads exists; a missing block has None in its places."""
    whole = ReportFacts.completed(facts)
    for run, name in zip(whole["runs"], anchors(run["key"] for run in whole["runs"]), strict=True):
        run["width"], run["goal"] = without_nan(run["width"]), without_nan(run["goal"])
        run["anchor"] = name
    return {"title": whole["title"] or whole["data"]["name"], "data": whole["data"], "runs": whole["runs"]}


def anchors(keys: Iterable[str]) -> list[str]:
    """One page anchor a run, safe in an id and in a URL, no two equal.

    >>> anchors(["mlp", "My net!", "mlp", "data"])
    ['mlp', 'my-net', 'mlp-2', 'data-2']
    """
    seen, names = {"overview", "data", "top", "figures"}, []  # ids that the page itself uses
    for key in keys:
        stem = re.sub(r"[^a-z0-9]+", "-", str(key).lower()).strip("-") or "run"
        name, k = stem, 2
        while name in seen:
            name, k = f"{stem}-{k}", k + 1
        seen.add(name)
        names.append(name)
    return names


def without_nan(value):
    """The same plain data with None for every number that JSON cannot write (nan and infinities)."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
