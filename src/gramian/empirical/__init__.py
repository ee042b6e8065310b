"""Finite width: the tangent kernel of a network as it stands, exactly, for any `torch.nn.Module`."""

from gramian.empirical.contraction.ntk import empirical_ntk, empirical_ntk_by_layer
from gramian.empirical.operators.jacobian import jacobian
from gramian.empirical.operators.tangent_operators import EmpiricalNTK, GaussNewton
from gramian.empirical.sketches.projected_gradients import projected_gradients
from gramian.empirical.sketches.random_projections import Sketch
from gramian.empirical.taylor.first_order import Linearized, linearize
from gramian.empirical.taylor.second_order import Quadratic, quadratic

__all__ = [
    "EmpiricalNTK",
    "GaussNewton",
    "Linearized",
    "Quadratic",
    "Sketch",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "jacobian",
    "linearize",
    "ntk_product",
    "projected_gradients",
    "quadratic",
]
