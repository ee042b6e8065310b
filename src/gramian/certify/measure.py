"""What is measured on the network itself before and after its training."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gramian.certify.network_ntk import KernelCost
from gramian.empirical import empirical_ntk
from gramian.empirical.modules.calling import call
from gramian.empirical.modules.module_copy import copied
from gramian.module_state.random_numbers import random_numbers_apart
from gramian.solve import max_lr
from gramian.train.batches import Batches
from gramian.train.forward import evaluating, rows_per_pass, statistics_of
from gramian.train.largest_eigenvalue import largest_eigenvalue, largest_eigenvalue_of_batches

GRAM_OPERATIONS = 8e11  # for the network's own Gram matrix before and after the run: some ten seconds each
MOST_COUPLED = 5000  # rows times outputs of the Gram matrix over all outputs: 200 MB in float64
STEP_OPERATIONS = 2e11  # for those after every step, all steps together
MOST_COUPLED_AT_EACH_STEP, MOST_STEPS_WATCHED = 128, 300  # rows times outputs; at a few ms a step


def outputs(network: nn.Module, x: Tensor) -> Tensor:
    """Outputs in evaluation mode, in pieces; shape (n, C), float64 on the CPU. The mode of every part comes back."""
    with evaluating(network), torch.no_grad():
        parts = [call(network, part).double().cpu() for part in x.split(rows_per_pass(x))]
    return torch.cat([part.reshape(len(part), -1) for part in parts])


def coupled_gram(network: nn.Module, x: Tensor, n_outputs: int, cost: KernelCost) -> Tensor | None:
    """The network's own NTK over all outputs and rows, (n, n, C, C); None where it takes too much time or memory."""
    if len(x) * n_outputs > MOST_COUPLED or cost.affordable_rows(GRAM_OPERATIONS / n_outputs) < len(x):
        return None
    with evaluating(network):
        return empirical_ntk(network, x, outputs="full").cpu()


def probes_for(n: int, n_outputs: int, steps: int, cost: KernelCost) -> list[str]:
    """All probes, and what premises of theorems ask for: after every step only where that takes a few seconds."""
    chosen = ["standard", "update_error", "kernel_entry_drift"]
    cheap = cost.affordable_rows(STEP_OPERATIONS / (n_outputs * max(steps, 1))) == n
    if n * n_outputs <= MOST_COUPLED_AT_EACH_STEP and steps <= MOST_STEPS_WATCHED and cheap:
        chosen.append("step_remainder")
    return chosen


def largest_lr(
    network: nn.Module, x: Tensor, gram: Tensor, optimizer: str, beta: float, size: int, loss: str, seed: int
) -> float | None:
    """Largest stable learning rate at initialization; None for Adam, and for a network whose gradients are all zero.

    Full batches: by Lanczos on all outputs. Minibatches: the largest eigenvalue that a batch of the first epoch meets,
    n / |S| times that of its block of the Gram matrix, where that was computed on all rows; as this is a mean over
    outputs, times what their coupling adds on all rows (within 2 % of what it adds in a batch, where both were seen).
    Batch normalization has the statistics of the rows, not those of the user's module, which may be of nothing yet.
    """
    if optimizer == "adam":
        return None
    with evaluating(network), statistics_of(network, x):
        lam = _curvature(network, x, gram, size, seed)
    if loss == "cross-entropy":
        lam *= 0.5  # the bound on the curvature of the loss
    if not (math.isfinite(lam) and lam > 0):
        return None
    return max_lr(lam, "gd" if optimizer == "sgd" else optimizer, beta)


def _curvature(network: nn.Module, x: Tensor, gram: Tensor, size: int, seed: int) -> float:
    """Largest eigenvalue that a step meets."""
    if size == len(x):
        return largest_eigenvalue(network, x)
    batches = Batches(len(x), size, torch.Generator().manual_seed(seed)).first_epoch()
    if len(gram) < len(x):
        return largest_eigenvalue_of_batches(network, x, batches)
    top = float(torch.linalg.eigvalsh(gram)[-1])
    if not (math.isfinite(top) and top > 0):
        return 0.0
    # a step on a batch meets n / |S| times its block of the Gram matrix, here of the mean over outputs
    lam = max(len(x) / len(b) * float(torch.linalg.eigvalsh(gram[b][:, b])[-1]) for b in batches)
    # times how much the coupling of the outputs raises it on all rows
    return lam * largest_eigenvalue(network, x) / top


def differs_by_mode(module: nn.Module, x: Tensor) -> str:
    """Which layers make the module another function in training mode than in evaluation mode; "" if none does.

    Tried on a copy, with the same random numbers: batch normalization, dropout, and whatever a module of the user's own
    does by its mode. Only of a module that is in training mode, at least in part.
    """
    if not any(part.training for part in module.modules()):
        return ""
    tried = copied(module)
    own = next(p for p in tried.parameters() if p.is_floating_point())
    rows = x.to(own.device, own.dtype)
    with torch.no_grad(), random_numbers_apart(own.device):
        try:
            moving = [tried(rows) for _ in range(2)]
            still = tried.eval()(rows)
        except (RuntimeError, ValueError, TypeError, IndexError):  # said where the module is read
            return ""
    if not all(isinstance(out, Tensor) for out in (*moving, still)):
        return ""
    if all(torch.allclose(out, still, rtol=1e-3, atol=1e-5 * float(still.abs().max())) for out in moving):
        return ""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    named = {type(part).__name__ for part in module.modules() if part.training and isinstance(part, kinds)}
    return ", ".join(sorted(named)) or type(module).__name__
