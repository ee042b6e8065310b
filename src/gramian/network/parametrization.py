r"""How weights and learning rates depend on the width n: the names, and where each makes sense.

In the terms of Yang and Hu 2021 (arXiv:2011.14522) a layer's weight is $n^{-a} w$ with $w \sim N(0, n^{-2b})$, trained
at the rate $\eta\, n^{-c}$. Adding t to all a, taking it from all b and twice from c changes nothing but names.

| | first layer a, b | hidden layers a, b | readout a, b | c |
|---|---|---|---|---|
| ntk | 0, 0 | 1/2, 0 | 1/2, 0 | 0 |
| mup | -1/2, 1/2 | 0, 1/2 | 1/2, 1/2 | 0 |
| mup, with t = 1/2 | 0, 0 | 1/2, 0 | 1, 0 | -1 |
| mean_field | 0, 0 | | 1, 0 | -1 |

So mup is the NTK parametrization with an output $\sqrt n$ times smaller and rates n times as large. Its output at
initialization vanishes like $1 / \sqrt n$. Its tangent kernel at initialization, times the rate, is that of the NTK
parametrization: the two factors cancel. But one step moves each hidden value by a constant, not by $1 / \sqrt n$.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gramian.errors import BadArgument, NoLimit

if TYPE_CHECKING:
    from gramian.arch.structure import Structure

PARAMETRIZATIONS = ("ntk", "standard", "mup", "mean_field")


def check_name(parametrization: str) -> None:
    """Raises BadArgument for a parametrization that is not known."""
    if parametrization not in PARAMETRIZATIONS:
        raise BadArgument(
            f"Unknown parametrization {parametrization!r}.",
            where="argument `parametrization` of architecture",
            why=f"there are four, {', '.join(map(repr, PARAMETRIZATIONS))}: see docs/parametrizations.md",
            fix='parametrization="ntk", which multiplies unit weights by sigma_w / sqrt(fan_in)',
        )


def check_depth(arch: Structure) -> None:
    """Refuses the parametrizations that learn features where there are none, or where they collapse."""
    if not arch.learns_features:
        return
    if arch.depth < 2:
        raise NoLimit(
            f"The {arch.parametrization} parametrization of a network without a hidden layer.",
            why="its rates grow with the hidden width, of which there is none",
            fix='parametrization="ntk"',
        )
    if arch.parametrization == "mean_field" and arch.depth > 2:
        raise NoLimit(
            f"The mean-field parametrization of a network of {arch.depth} affine layers.",
            why="with means over i.i.d. centred weights in place of all sums, hidden values vanish as the width grows",
            fix='parametrization="mup", which is mean-field for one hidden layer and keeps hidden values of order 1',
        )
