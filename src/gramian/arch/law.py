"""The law of the random weights: standard deviations after the fan-in scaling, said by the caller for every layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.optim import Optimizer

from gramian.errors import BadArgument

Pair = tuple[float, float]
Law = str | Pair | Mapping[str, "str | Pair"]
Rates = Mapping[str, float] | Optimizer

NAMED_LAWS: dict[str, Pair] = {"he": (math.sqrt(2), 0.0), "lecun": (1.0, 0.0)}
LAWS = 'law="he" | "lecun" | "torch" | (sigma_w, sigma_b) | {"features.*": "he", "readout": (1, 0)}'


def resolve(law: Law, path: str, *, fan_in: int, readout: bool, embedding: bool = False, torch_fan: int = 0) -> Pair:
    r"""$(\sigma_w, \sigma_b)$ of one affine layer: Var(W_ij) = sigma_w^2 / fan_in, Var(b) = sigma_b^2.

    Args:
        law: "he" is (sqrt 2, 0), "lecun" (1, 0), "torch" PyTorch's default initialization: uniform with variance
            1 / (3 fan_in) for weights and biases, N(0, 1) for an embedding; a pair; or a mapping from module paths or
            patterns to these.
        path: the layer's path in the module, such as `layers.3`.
        fan_in: inputs of one output unit: channels times window.
        readout: whether this is the last affine layer; under "he" and "lecun" it gets (1, 0).
        embedding: whether it is an embedding, whose fan-in is 1: N(0, 2) under "he", N(0, 1) under "lecun" and "torch".
        torch_fan: what PyTorch draws this layer by instead of its fan-in: a recurrent layer's hidden size; 0 for none.

    Raises:
        BadArgument: an unknown name, a negative or missing number, or a mapping with no entry for this layer.
    """
    if isinstance(law, Mapping):
        keys = [k for k in law if k == path]
        if readout:
            keys.insert(0, "readout")
        keys += [k for k in law if k not in keys and k != "readout" and fnmatchcase(path, k)]
        # an exact path beats "readout", which beats a pattern
        matching = [k for k in sorted(keys, key=lambda k: (k != path, k != "readout")) if k in law]
        if not matching:
            raise BadArgument(
                f"The law has no entry for the layer `{path}`; it has {', '.join(map(repr, law)) or 'none at all'}.",
                where=f"law, layer {path}",
                why="a mapping must cover every affine layer: a law is said, never guessed",
                fix=f'add "{path}": (sigma_w, sigma_b), or a pattern for the rest: "*": "he"',
            )
        entry = law[matching[0]]
        left = readout and matching[0] != path and matching[0] != "readout"
        return resolve(entry, path, fan_in=fan_in, readout=left, embedding=embedding, torch_fan=torch_fan)
    if isinstance(law, str):
        if law == "torch":
            if embedding:
                return 1.0, 0.0
            fan = torch_fan or fan_in
            # U(-1/sqrt(fan), 1/sqrt(fan)) has the variance 1 / (3 fan); sigma_w^2 is fan_in times that
            return math.sqrt(fan_in / fan) / math.sqrt(3), 1 / math.sqrt(3 * fan)
        if law not in NAMED_LAWS:
            raise BadArgument(f"Unknown law {law!r}.", where=f"law, layer {path}", why="no law has that name", fix=LAWS)
        if readout:
            return (1.0, 0.0)
        return NAMED_LAWS[law]
    try:
        sigma_w, sigma_b = (_deviation(s) for s in law)
    except (TypeError, ValueError):
        sigma_w = sigma_b = math.nan
    if not (0 <= sigma_w < math.inf and 0 <= sigma_b < math.inf):
        raise BadArgument(
            f"{law!r} is not a pair of standard deviations.",
            where=f"law, layer {path}",
            why="sigma_w and sigma_b must be two finite numbers, zero or more",
            fix=LAWS,
        )
    return sigma_w, sigma_b


def plain(s: float | Tensor) -> float:
    """A number of a law without its gradient."""
    if isinstance(s, Tensor):
        return float(s.detach())
    return float(s)


def _deviation(s: float | Tensor) -> float:
    """A number; a tensor of one number that requires a gradient stays one, for the kernel's derivative in it."""
    if isinstance(s, Tensor) and s.requires_grad and s.numel() == 1:
        return s.reshape(())  # type: ignore[return-value]
    return float(s)


def names_exactly(law: Law, path: str) -> bool:
    """Whether a mapping has an entry for this very path."""
    return isinstance(law, Mapping) and path in law


def resolve_entries(law: Law, path: str) -> float:
    """The standard deviation of each entry of a parameter that is itself a value, such as learned positions.

    It is the first number of a pair. The named laws say nothing of such a parameter, which has no fan-in.

    Raises:
        BadArgument: a named law, or a mapping with no pair for this parameter.
    """
    said = law
    if isinstance(law, Mapping):
        matching = [k for k in law if k == path] or [k for k in law if k != "readout" and fnmatchcase(path, k)]
        if matching:
            said = law[matching[0]]
        else:
            said = "none"
    if isinstance(said, str):
        rest, typed = "", f"{path}=0.02,0"
        if not isinstance(law, Mapping):
            rest, typed = f', "*": {law!r}', f"{typed};*={law}"
        raise BadArgument(
            f"The law says nothing of the parameter `{path}`, which is added to the values, or stands beside them.",
            where=f"law, parameter {path}",
            why="it has no fan-in, from which the named laws take their standard deviation",
            fix=f'law={{"{path}": (0.02, 0){rest}}} (--law "{typed}"): entries of standard deviation 0.02',
        )
    return resolve(said, path, fan_in=1, readout=False)[0]


def multipliers(rates: Rates | None, parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """The learning-rate multiplier of each parameter, by name; see `architecture`."""
    if isinstance(rates, Optimizer):
        groups = [(group["params"], float(group["lr"])) for group in rates.param_groups]
        base = groups[0][1]
        if base <= 0:
            raise BadArgument(
                f"The optimizer's first learning rate is {base}.",
                where="argument `rates` of architecture",
                why="the other groups' rates are taken relative to it",
                fix="give the first group a positive learning rate",
            )
        of = {id(p): lr / base for params, lr in groups for p in params}
        return {name: of.get(id(p), 0.0) for name, p in parameters.items()}
    rate_of: dict[str, float] = {}
    for pattern, rate in (rates or {}).items():
        names = [name for name in parameters if name == pattern or fnmatchcase(name, pattern)]
        wrong = ""
        if not names:
            wrong = "no parameter is called"
        elif not 0 <= rate < math.inf:
            wrong = "is no rate"
        if wrong:
            raise BadArgument(
                f"The rate {rate!r} for {pattern!r}, which {wrong}.",
                where="argument `rates` of architecture",
                why="a rate is a finite number, zero or more, for parameters of the module by name or pattern",
                fix=f'rates={{"{next(iter(parameters), "0.weight")}": 0.5}}',
            )
        rate_of |= dict.fromkeys(names, float(rate))
    return rate_of
