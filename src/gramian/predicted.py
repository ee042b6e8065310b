"""Training curves as predicted under a constant kernel: of gradient flow, gradient descent, momentum, minibatches.

Each takes a kernel `theta` on the training inputs, (n, n), and the residuals `r0` at the start, (n, C), and solves the
linear dynamics that the network would follow if its kernel did not move.
"""

from gramian.solve.coupled import coupled_descent
from gramian.solve.dynamics import gradient_descent, gradient_flow, loss, loss_curve, momentum, nesterov
from gramian.solve.minibatch import minibatch_descent

__all__ = [
    "coupled_descent",
    "gradient_descent",
    "gradient_flow",
    "loss",
    "loss_curve",
    "minibatch_descent",
    "momentum",
    "nesterov",
]
