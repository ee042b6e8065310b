"""Finite width: the tangent kernel of a network as it stands, exactly, for any `torch.nn.Module`."""

from gramian.empirical.jacobian import jacobian
from gramian.empirical.linearize import Linearized, linearize
from gramian.empirical.monte_carlo import MonteCarlo, monte_carlo
from gramian.empirical.ntk import empirical_ntk, empirical_ntk_by_layer
from gramian.empirical.operator import EmpiricalNTK, GaussNewton
from gramian.empirical.product import ntk_product
from gramian.empirical.projected import projected_gradients
from gramian.empirical.sketch import Sketch
from gramian.empirical.taylor import Quadratic, quadratic

__all__ = [
    "EmpiricalNTK",
    "GaussNewton",
    "Linearized",
    "MonteCarlo",
    "Quadratic",
    "Sketch",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "jacobian",
    "linearize",
    "monte_carlo",
    "ntk_product",
    "projected_gradients",
    "quadratic",
]
