"""Kernel regression and predicted training curves."""

from gramian.solve.cholesky import Solution, solve
from gramian.solve.coupled import coupled_descent
from gramian.solve.dynamics import gradient_descent, gradient_flow, loss, loss_curve, momentum, nesterov
from gramian.solve.influence import Attribution, attribution, attribution_of_features
from gramian.solve.linearized_fit import fit_linearized
from gramian.solve.minibatch import minibatch_descent
from gramian.solve.rates import max_lr, rate, time_to
from gramian.solve.tuning import RULES, Tuning, tuning

__all__ = [
    "RULES",
    "Attribution",
    "Solution",
    "Tuning",
    "attribution",
    "attribution_of_features",
    "coupled_descent",
    "fit_linearized",
    "gradient_descent",
    "gradient_flow",
    "loss",
    "loss_curve",
    "max_lr",
    "minibatch_descent",
    "momentum",
    "nesterov",
    "rate",
    "solve",
    "time_to",
    "tuning",
]
