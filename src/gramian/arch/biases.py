"""Biases that a module has and its kernel does not."""

from __future__ import annotations

from gramian.arch.architecture import Architecture
from gramian.arch.law import Law, plain


def uncounted_biases(arch: Architecture) -> int:
    """Layers that have a bias whose standard deviation is 0 under the law.

    Example:
        >>> import torch
        >>> from gramian.arch import architecture
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1, bias=False))
        >>> uncounted_biases(architecture(net, torch.ones(1, 2))), uncounted_biases(
        ...     architecture(net, torch.ones(1, 2), law="torch")
        ... )
        (1, 0)
    """
    return sum(op.bias_name is not None and plain(op.sigma_b) == 0 for op in arch.affine)


def says_uncounted(arch: Architecture, law: Law) -> str:
    """One sentence for a module whose biases do not count, and how to make them count; "" if all do."""
    n = uncounted_biases(arch)
    if not n:
        return ""
    named = f"law {law!r}" if isinstance(law, str) else "this law"
    biases = "The bias of the module does" if n == 1 else f"The {n} biases of the module do"
    return (
        f"{biases} not count under {named}, which gives biases the standard deviation 0; --law torch (law='torch'), or "
        "a pair such as --law 1.4,0.1 (law=(1.4, 0.1)), makes them count."
    )
