"""Whether a network is, layer by layer, the one that a paper's theorem is about."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gramian.arch.ops import GELU, Activation, Cos, Erf, Gaussian, Linear, Permute, Reshape, Scale, Sin, Smooth, Sum
from gramian.arch.structure import Step
from gramian.certify.kernel_prediction import above_rounding
from gramian.network import Architecture
from gramian.train.theorem_networks import second_moment_inverse

# tanh, sigmoid, silu, softplus, mish, atan, log_sigmoid, gelu (both): bounded slopes and second derivatives, analytic
# on the real line. exp and polynomials have unbounded slopes, ELU, SELU and Softsign are not analytic at 0.
MOST_TWO_LAYER_ROWS = 1000  # its Gram matrix is made from all pairs at once
ANALYTIC = (Smooth, Erf, GELU, Sin, Cos, Gaussian)


def network_facts(
    arch: Architecture | None, network: nn.Module, x: Tensor, paper: bool, initialization: str
) -> dict[str, Any]:
    """The fields of `Evidence` on what the network is: `arch` as read, `network` as trained, `x` as it takes them."""
    if x.ndim == 2:
        last = float((x.flatten(1)[:, -1] - math.sqrt(0.5)).abs().max())
    else:
        last = None
    if arch is None:
        return {"activations": (), "analytic": None, "biases": True, "trained": "some", "last_coordinate_error": last}
    names, analytic = activations(arch)
    form, scaling = layers(arch)
    gaussian = None
    if initialization.startswith("NTK"):
        gaussian = True
    one_weight_in_two_places = len({a.source for a in arch.affine}) < len(arch.affine)
    if one_weight_in_two_places or initialization.startswith("standard"):
        gaussian = False
    lambda_two_layer = None
    if form == "chain" and len(arch.affine) == 2 and len(x) <= MOST_TWO_LAYER_ROWS:
        lambda_two_layer = two_layer_lambda(x)
    return {
        "activations": names,
        "analytic": analytic,
        "biases": has_biases(arch),
        "trained": trained(arch, paper),
        "form": form,
        "scaling_error": scaling,
        "gaussian": gaussian,
        "sign_readout": sign_readout(network),
        "lambda_two_layer": lambda_two_layer,
        "last_coordinate_error": last,
    }


def activations(arch: Architecture) -> tuple[tuple[str, ...], bool | None]:
    """Names of the activations above the data, and whether all are analytic, not polynomial, Lipschitz with a
    Lipschitz derivative: by the class of the op; None where one is a function composed by the user."""
    ops = [step.op for step in arch.steps if isinstance(step.op, Activation) and not step.data]
    names = tuple(dict.fromkeys(op.name for op in ops))
    known = [_analytic(op) for op in ops]
    if not ops or False in known:
        return names, False
    if None in known:
        return names, None
    return names, True


def _analytic(op: Activation) -> bool | None:
    if type(op) in ANALYTIC:
        return True
    if getattr(op, "kinks", ()) or type(op).__name__ != "Pointwise":
        return False
    return None


def layers(arch: Architecture) -> tuple[str, float | None]:
    """How the layers are composed, "chain", "residual" or "other", and the largest relative deviation of their factors
    from those of Du et al. 2019; None where these are not theirs to compare."""
    steps = [(number, step) for number, step in enumerate(arch.steps) if not step.data]
    plain_input = all(isinstance(step.op, Reshape | Permute) for step in arch.steps if step.data)
    if not steps or not plain_input or arch.output != len(arch.steps) - 1:
        return "other", None
    if _is_chain(steps):
        return "chain", _chain_scaling(arch, steps)
    scaling = _residual_scaling(arch, steps)
    if scaling is None:
        return ("other", None)
    return ("residual", scaling)


def _is_chain(steps: list[tuple[int, Step]]) -> bool:
    """Linear layers and activations in turn, from a linear layer on the input to one that makes the outputs."""
    ops = [s.op for _, s in steps]
    in_turn = all(type(op) is Linear for op in ops[::2]) and all(isinstance(op, Activation) for op in ops[1::2])
    on_vectors = all(len(step.shape) == 1 for _, step in steps)
    return in_turn and on_vectors and len(steps) % 2 == 1 and _follow(steps)


def _follow(steps: list[tuple[int, Step]]) -> bool:
    """Whether each step takes the result of the one before, and no other."""
    return all(step.inputs == (before,) for (before, _), (_, step) in pairwise(steps))


def _c_sigma(ops: list[Activation]) -> float | None:
    """1 / E sigma(z)^2 of the one activation of a network; None if there are several, or it has no second moment."""
    if not ops or any(op != ops[0] for op in ops):
        return None
    moment = second_moment_inverse(ops[0].phi)
    if math.isfinite(moment) and moment > 0:
        return moment
    return None


def _chain_scaling(arch: Architecture, steps: list[tuple[int, Step]]) -> float | None:
    """Theorem 5.1: factor 1 on the input, of norm one, and sqrt(c_sigma / m) after each activation."""
    c = _c_sigma([step.op for _, step in steps if isinstance(step.op, Activation)])
    if c is None or arch.parametrization != "ntk":
        return None
    sigmas = [float(a.sigma_w) for a in arch.affine]
    wanted = [1.0] + [math.sqrt(c)] * (len(sigmas) - 1)
    return max(abs(sigma / want - 1) for sigma, want in zip(sigmas, wanted, strict=True))


def _residual_scaling(arch: Architecture, steps: list[tuple[int, Step]]) -> float | None:
    r"""Theorem 6.1, in values that are root m times the paper's; None where the layers are not composed so.

    Linear, activation, times sqrt(c_sigma); then H - 1 blocks h + c_res / H sigma(W h); then the readout. The factors
    of the linear layers are all 1, and c_res, the same in all blocks, lies between 0 and 1.
    """
    head, body, last = steps[:3], steps[3:-1], steps[-1]
    shapes = [isinstance(step.op, kind) for (_, step), kind in zip(head, (Linear, Activation, Scale), strict=False)]
    on_vectors = all(len(step.shape) == 1 for _, step in steps)
    if (
        len(steps) < 8
        or not on_vectors
        or arch.parametrization != "ntk"
        or not all(shapes)
        or not isinstance(last[1].op, Linear)
    ):
        return None
    if not _follow(head) or len(body) % 4:
        return None
    blocks = [body[k : k + 4] for k in range(0, len(body), 4)]
    H, below, sizes = len(blocks) + 1, head[-1][0], []
    for block in blocks:
        size = _block_size(block, below)
        if size is None:
            return None
        sizes.append(size * H)
        below = block[-1][0]
    c = _c_sigma([step.op for _, step in steps if isinstance(step.op, Activation)])
    if last[1].inputs != (below,) or c is None:
        return None
    if any(abs(size - sizes[0]) > 1e-6 for size in sizes) or not all(0 < size < 1 for size in sizes):
        return None
    first = head[2][1].op
    assert isinstance(first, Scale)
    factors = [float(a.sigma_w) for a in arch.affine] + [first.factor / math.sqrt(c)]
    return max(abs(factor - 1) for factor in factors)


def _block_size(block: list[tuple[int, Step]], below: int) -> float | None:
    """The factor of the branch in h + factor sigma(W h); None for another block."""
    linear, activation, scale, total = (step for _, step in block)
    kinds = (isinstance(linear.op, Linear), isinstance(activation.op, Activation), isinstance(scale.op, Scale))
    if not all(kinds) or not isinstance(total.op, Sum) or not isinstance(scale.op, Scale):
        return None
    branch = block[2][0]
    if linear.inputs != (below,) or not _follow(block[:3]):
        return None
    if total.inputs == (below, branch):
        return scale.op.factor * total.op.alpha
    if total.inputs == (branch, below) and total.op.alpha == 1:
        return scale.op.factor
    return None


def has_biases(arch: Architecture) -> bool:
    """Whether a bias enters; in the NTK parametrization one with sigma_b = 0 is left out."""
    return any(a.bias_name is not None and (a.sigma_b > 0 or arch.parametrization != "ntk") for a in arch.affine)


def trained(arch: Architecture, paper: bool) -> str:
    """Which layers are trained: "all", "hidden" (of Allen-Zhu et al.), "first" or "some"."""
    trains = [a.weight_trains for a in arch.affine]
    if paper:
        if trains and not trains[0] and not trains[-1] and all(trains[1:-1]):
            return "hidden"
        return "some"
    if trains and all(trains):
        return "all"
    if trains and trains[0] and not any(trains[1:]):
        return "first"
    return "some"


def sign_readout(network: nn.Module) -> bool | None:
    """Whether the last parameter is a fixed row of a_r / sqrt(m) with a_r = 1 or -1; None where there is none."""
    weights = [p for p in network.parameters() if p.ndim == 2]
    if not weights:
        return None
    last = weights[-1].detach().double()
    # the readout is a_r / sqrt(m)
    signs = last * math.sqrt(last.shape[1])
    return not weights[-1].requires_grad and bool(((signs.abs() - 1).abs() < 1e-6).all())


def two_layer_lambda(x: Tensor) -> float:
    r"""Smallest eigenvalue of $H^\infty_{ij} = x_i^\top x_j (\pi - \arccos x_i^\top x_j) / 2\pi$ at rows of norm one.

    Example:
        >>> round(two_layer_lambda(torch.eye(2)), 6)
        0.5
    """
    rows = x.double().flatten(1)
    norms = rows.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):  # a row of zeros has a row of zeros there
        return 0.0
    rows = rows / norms
    # the angle from the lengths of sum and difference: arccos loses half the digits of close rows
    apart = (rows[:, None] - rows[None]).norm(dim=2)
    together = (rows[:, None] + rows[None]).norm(dim=2)
    angle = 2 * torch.atan2(apart, together)
    gram = angle.cos() * (math.pi - angle) / (2 * math.pi)
    return float(above_rounding(torch.linalg.eigvalsh(gram))[0])
