"""When the forward of a finite network cannot depend on values, and what its structure is then.

`Network.forward` applies the architecture's ops one after the other. Of the ops below none looks at a number, so that
the graph of a pass is the same at all weights and samples, as long as nobody has changed the module since: hooks,
other layers, other attributes, a forward of the user's own. Then nothing is said, and each call is watched again.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import nn

from gramian.arch.ops import Affine
from gramian.arch.ops.affine import Conv, LayerScaling, Linear
from gramian.arch.ops.combine import Sum
from gramian.arch.ops.erf import GELU, Erf
from gramian.arch.ops.pool import Reshape
from gramian.arch.ops.relu import LeakyReLU, ReLU
from gramian.arch.ops.scale import Scale
from gramian.arch.ops.smooth import Smooth
from gramian.empirical.modules.kept_structure import FixedStructure
from gramian.network.finite_network import Network, Scaled

FIXED_OPS = (Linear, Conv, Reshape, Sum, Scale, ReLU, LeakyReLU, Erf, GELU, Smooth)
# as they are when this file is imported: a class that somebody has changed since is another one
FORWARDS = {kind: kind.forward for kind in (nn.Module, Network, Scaled, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)}
CALL = nn.Module.__call__
PLAIN = (bool, int, float, str, type(None), LayerScaling)
KEPT_AS = "structures of finite networks"  # in `Structure.prepared` of the architecture


class _Changed(Exception):
    """The module is not as `Architecture.network` made it."""


def structure_of(network: Network) -> FixedStructure | None:
    """The structure of a network, with the architecture as the place of what is known of it."""
    steps = network.architecture.steps
    if not all(type(step.op) in FIXED_OPS for step in steps):
        return None
    paths: dict[int, str] = {}
    try:
        parts = tuple(_part(path, part, paths) for path, part in network.named_modules())
        layers = tuple((number, paths[id(layer)]) for number, layer in network._at.items())
        if [number for number, _ in layers] != [n for n, step in enumerate(steps) if isinstance(step.op, Affine)]:
            return None
        parameters = _parameters(network)
    except (_Changed, KeyError):
        return None
    kept = network.architecture.prepared.setdefault(KEPT_AS, {})
    return FixedStructure(kept, (parts, layers, parameters))


def _part(path: str, part: nn.Module, paths: dict[int, str]) -> Hashable:
    kind = type(part)
    if kind not in FORWARDS or kind.forward is not FORWARDS[kind] or kind.__call__ is not CALL:
        raise _Changed
    paths[id(part)] = path
    plain = []
    for name, value in vars(part).items():
        if name in ("_parameters", "_modules", "architecture", "_at"):
            continue
        if isinstance(value, dict | set):  # hooks of all kinds, and buffers
            if value:
                raise _Changed
            continue
        plain.append((name, _plain(value)))
    return path, kind, tuple(plain), tuple(part._parameters), tuple(part._modules)


def _plain(value: Any) -> Hashable:
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if type(value) not in PLAIN:
        raise _Changed
    return value


def _parameters(network: Network) -> Hashable:
    first: dict[int, int] = {}
    described = []
    for name, p in network.named_parameters(remove_duplicate=False):
        if type(p) is not nn.Parameter or p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
            raise _Changed
        shared = first.setdefault(id(p), len(first))  # the same number: one parameter in two places
        described.append((name, shared, p.shape, p.stride(), p.dtype, p.device, p.requires_grad))
    return tuple(described)
