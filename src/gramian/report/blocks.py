"""The facts with every block in its place: what certify left out becomes None, so that the page has one shape."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_DATA: dict = {
    "name": "data",
    "source": None,
    "n_train": None,
    "n_test": None,
    "in_shape": [],
    "n_outputs": None,
    "classes": [],
    "task": None,
    "base_rate": dict.fromkeys(("train", "test")),
    "imbalanced": None,
    "targets": dict.fromkeys(("mean", "deviation")),
    "standardized": None,
    "geometry": {},
}
_GEOMETRY = {
    "norm_min": None,
    "norm_max": None,
    "separation": None,
    "closest": None,
    "duplicates": None,
    "conflicts": None,
}
_RUN: dict = {
    "key": "run",
    "title": "network",
    "network": None,
    "status": "not shown",
    "did": None,
    "why": None,
    "answer": [],
    "questions": [],
    "trained": dict.fromkeys(("what", "parametrization", "mode")),
    "goal": dict.fromkeys(("loss", "best_constant", "share", "asked", "target", "floor", "accuracy", "steps", "means")),
    "scores": dict.fromkeys(("train", "test", "kernel")),
    "loss": dict.fromkeys(
        ("steps", "measured", "predicted", "predicted_initial", "loss_name", "lr", "lr_max", "optimizer", "torch")
    ),
    "accuracy": dict.fromkeys(("steps", "train", "test")),
    "spectrum": dict.fromkeys(("limit", "initial", "final", "singular")),
    "moved": dict.fromkeys(
        ("steps", "layers", "distance", "flip_layers", "flips", "drift_steps", "drift", "alignment")
    ),
    "test": dict.fromkeys(
        ("steps", "network_error", "kernel_error", "kernel_curve_steps", "kernel_curve", "unit", "quantity")
    ),
    "probes": [],
    "width": dict.fromkeys(
        (
            "widths",
            "errors",
            "slope",
            "constant",
            "tolerance",
            "useful_width",
            "useful_low",
            "useful_high",
            "useful_words",
            "draws",
            "rows",
            "run_width",
            "run_error",
            "in_regime",
        )
    )
    | {"papers": []},
    "certificates": [],
    "samples": [],
    "layers": [],
    "warnings": [],
    "made": dict.fromkeys(("command", "python", "seed", "dtype", "device", "commit", "date", "parameters", "overhead"))
    | {"versions": {}, "seconds": {}, "interrupted": False, "left_out": []},
}
_PROBE = dict.fromkeys(("name", "title", "unit", "steps", "values", "lower", "upper"))
_SAMPLE = dict.fromkeys(("row", "label", "said", "numbers", "image"))
_LAYER = dict.fromkeys(("name", "moved", "lately", "pull"))
_CERTIFICATE: dict = dict.fromkeys(("theorem", "reference", "status", "summary", "constants")) | {
    "premises": [],
    "conclusion": [],
}
_CONDITION = dict.fromkeys(("says", "needs", "has", "holds", "note", "vacuous"))


def complete(facts: dict) -> dict:
    """A copy of the facts in which every key that the page reads exists; a missing block has None in its places."""
    data = _fill(_DATA, facts.get("data"))
    data["geometry"] = _fill(_GEOMETRY, data["geometry"])
    runs = [_complete_run(run) for run in facts.get("runs") or []]
    for run, name in zip(runs, anchors(run["key"] for run in runs), strict=True):
        run["anchor"] = name
    return {"title": facts.get("title") or data["name"], "data": data, "runs": runs}


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


def _complete_run(run: dict) -> dict:
    whole = _fill(_RUN, run)
    whole["width"], whole["goal"] = without_nan(whole["width"]), without_nan(whole["goal"])
    whole["probes"] = [_fill(_PROBE, probe) for probe in whole["probes"]]
    whole["samples"] = [_fill(_SAMPLE, sample) for sample in whole["samples"]]
    whole["layers"] = [_fill(_LAYER, layer) for layer in whole["layers"]]
    whole["certificates"] = [_fill(_CERTIFICATE, certificate) for certificate in whole["certificates"]]
    for certificate in whole["certificates"]:
        for part in ("premises", "conclusion"):
            certificate[part] = [_fill(_CONDITION, condition) for condition in certificate[part]]
    return whole


def _fill(shape: dict, given: dict | None) -> dict:
    """`given` over the defaults of `shape`; blocks inside are filled likewise, and None does not replace a default."""
    given = given or {}
    out: dict = {}
    for key, default in shape.items():
        value = given.get(key)
        if isinstance(default, dict) and default:
            out[key] = _fill(default, value)
        else:
            if isinstance(default, dict | list):
                default = default.copy()
            else:
                default = default
            out[key] = default if value is None else value
    return out
