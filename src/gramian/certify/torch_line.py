"""The learning rate for a loop in plain torch, with the loss that it is for and the line to paste."""

from __future__ import annotations

import math
from typing import Any

ADAM_EPS = 1e-8  # torch's default, which this package's own runs use


def per_batch(loss: str, n: int, n_outputs: int) -> float:
    r"""The factor from a learning rate of the summed loss to one of the loss of a batch as people write it.

    Our steps minimize a sum over the n rows, $F = \sum_i F_i$; a batch S sees $\frac{n}{|S|} \sum_{i \in S} F_i$.
    `nn.CrossEntropyLoss()` is the mean over the batch, F / n. `nn.MSELoss()` is the mean over the batch and its C
    outputs of $(f - y)^2$, where $F_i = \frac12 \|f - y\|^2$: it is 2 F / (n C).

    Example:
        >>> per_batch("squared", 100, 2), per_batch("cross-entropy", 100, 2)
        (100.0, 100.0)
    """
    if loss == "squared":
        return n * n_outputs / 2
    return float(n)


def rounded(lr: float, digits: int = 3) -> float:
    """A number with few digits, which a line can hold whole."""
    return float(f"{lr:.{digits - 1}e}")


def torch_facts(
    *,
    loss: str,
    n: int,
    n_outputs: int,
    lr: float,
    lr_max: float | None,
    optimizer: str,
    beta: float,
    batch_size: int,
    network: str,
    targets: str,
) -> dict[str, Any]:
    """The facts `loss["torch"]`: see the table in `facts`."""
    if optimizer == "adam":
        times = 1.0
    else:
        times = per_batch(loss, n, n_outputs)
    if loss == "squared":
        name = "nn.MSELoss()"
    else:
        name = "nn.CrossEntropyLoss()"
    value = lr * times
    arguments = [f"lr={value:.6g}"]
    if beta:
        arguments.append(f"momentum={beta:g}")
    if optimizer == "nesterov" and beta:
        arguments.append("nesterov=True")
    # g / (sqrt(v) + eps) stays the same where g, the root of v and eps are divided by one number: as the gradients of
    # a mean are smaller than those of a sum, eps has to be too
    if optimizer == "adam":
        arguments.append(f"eps={ADAM_EPS / per_batch(loss, n, n_outputs):.3g}")
    if optimizer == "adam":
        kind = "Adam"
    else:
        kind = "SGD"
    if batch_size < n:
        batches = f"batches of {batch_size}"
    else:
        batches = "all rows in each step"
    return {
        "loss": name,
        "lr": value,
        "lr_max": None if lr_max is None or not math.isfinite(lr_max) else lr_max * times,
        "batch_size": batch_size,
        "network": network,
        "targets": targets,
        "line": f"torch.optim.{kind}(net.parameters(), {', '.join(arguments)})  # for {name}, {batches}",
    }
