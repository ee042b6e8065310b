"""What is contracted at once: one weight, one bias or one general parameter, each by the cheaper way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from gramian.empirical.layers import Sizes, sizes
from gramian.empirical.proof import Uses


@dataclass(frozen=True)
class Unit:
    """One parameter (or a weight with its bias) and the calls that its gradient is read from.

    `rows`: its gradients are formed, k p numbers a sample; else activations and back-propagated vectors are kept apart,
    `sizes` of them, and contracted over positions. Without calls the parameter goes the general way.
    """

    name: str
    kind: str  # "weight" | "weight and bias" | "bias" | "general"
    calls: tuple[int, ...]
    rows: bool
    numel: int
    sizes: Sizes

    def held(self, k: int) -> int:
        """Numbers kept for a sample and k outputs."""
        g, p, a, b = self.sizes
        return k * self.numel if self.rows else g * p * (a + k * b)


def make_units(uses: Uses, parameters: dict[str, Tensor], apart: bool) -> list[Unit]:
    """Units of the parameters in their order; `apart`: never a weight together with its bias."""
    units: list[Unit] = []
    for name, p in parameters.items():
        weight = tuple(i for i, call in enumerate(uses.calls) if call.weight == name)
        bias = tuple(i for i, call in enumerate(uses.calls) if call.bias == name)
        if weight:
            each = [sizes(uses.calls[i].layer, uses.calls[i].out_shape) for i in weight]
            total = each[0]._replace(positions=sum(s.positions for s in each))
            units.append(Unit(name, "weight", weight, False, p.numel(), total))
        elif bias:
            partner = next((u for u in units if u.calls == bias and u.sizes[:2] == (1, 1)), None)
            if partner is not None and not apart and uses.calls[bias[0]].weight == partner.name:
                units[units.index(partner)] = replace(partner, kind="weight and bias")  # (A A^T + 1) o (B B^T)
            else:
                units.append(Unit(name, "bias", bias, True, p.numel(), Sizes(1, 1, 0, 0)))
        elif name in uses.general:
            units.append(Unit(name, "general", (), True, p.numel(), Sizes(1, 1, 0, 0)))
    return units


def cheaper(unit: Unit, n: int, m: int, k: int, full: bool, scratch: int) -> Unit:
    """The unit with the way that takes fewer multiplications, given n x m samples and k outputs.

    Forming gradients: (n + m) k G P a b to form, n m p to contract. Contracting positions: n m G P^2 (a + b) and one
    pass over the products. All pairs of outputs with `full`, else each output with itself. `scratch`: the numbers
    that one pair of samples may take when positions are contracted.
    """
    if unit.kind not in ("weight", "weight and bias"):
        return unit
    g, p, a, b = unit.sizes
    pairs = k * k if full else k
    form = (n + m) * k * g * p * a * b + n * m * pairs * unit.numel
    contract = n * m * g * p * p * (a + pairs * b + (pairs if full else 1))
    return replace(unit, rows=(p > 1 or g > 1) and (form < contract or 2 * g * p * p > scratch))
