"""The law of the random weights: standard deviations after the fan-in scaling, said by the caller for every layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase

from gramian.errors import BadArgument

Pair = tuple[float, float]
Law = str | Pair | Mapping[str, "str | Pair"]

NAMED: dict[str, Pair] = {"he": (math.sqrt(2), 0.0), "lecun": (1.0, 0.0)}
HOW = 'law="he" | "lecun" | "torch" | (sigma_w, sigma_b) | {"features.*": "he", "readout": (1, 0)}'


def resolve(law: Law, path: str, *, fan_in: int, readout: bool) -> Pair:
    r"""$(\sigma_w, \sigma_b)$ of one affine layer: Var(W_ij) = sigma_w^2 / fan_in, Var(b) = sigma_b^2.

    Args:
        law: "he" is (sqrt 2, 0), "lecun" (1, 0), "torch" PyTorch's default initialization, uniform with variance
            1 / (3 fan_in) for weights and biases; a pair; or a mapping from module paths or patterns to these.
        path: the layer's path in the module, such as `layers.3`.
        fan_in: inputs of one output unit: channels times window.
        readout: whether this is the last affine layer; under "he" and "lecun" it gets (1, 0).

    Raises:
        BadArgument: an unknown name, a negative or missing number, or a mapping with no entry for this layer.
    """
    if isinstance(law, Mapping):
        keys = (["readout"] if readout else []) + [k for k in law if k == path]
        keys += [k for k in law if k not in keys and k != "readout" and fnmatchcase(path, k)]
        # an exact path beats "readout", which beats a pattern
        found = [k for k in sorted(keys, key=lambda k: (k != path, k != "readout")) if k in law]
        if not found:
            raise BadArgument(
                f"The law has no entry for the layer `{path}`; it has {', '.join(map(repr, law)) or 'none at all'}.",
                where=f"law, layer {path}",
                why="a mapping must cover every affine layer: a law is said, never guessed",
                fix=f'add "{path}": (sigma_w, sigma_b), or a pattern for the rest: "*": "he"',
            )
        entry = law[found[0]]
        return resolve(entry, path, fan_in=fan_in, readout=readout and found[0] != path and found[0] != "readout")
    if isinstance(law, str):
        if law == "torch":
            bound = 1 / math.sqrt(3 * fan_in)
            return 1 / math.sqrt(3), bound
        if law not in NAMED:
            raise BadArgument(f"Unknown law {law!r}.", where=f"law, layer {path}", why="no law has that name", fix=HOW)
        return (1.0, 0.0) if readout else NAMED[law]
    try:
        sigma_w, sigma_b = (float(s) for s in law)
    except (TypeError, ValueError):
        sigma_w = sigma_b = math.nan
    if not (0 <= sigma_w < math.inf and 0 <= sigma_b < math.inf):
        raise BadArgument(
            f"{law!r} is not a pair of standard deviations.",
            where=f"law, layer {path}",
            why="sigma_w and sigma_b must be two finite numbers, zero or more",
            fix=HOW,
        )
    return sigma_w, sigma_b
