"""What a network is, as frozen data: steps with their ops, laws of the weights, moments. It knows no engine."""

from gramian.arch.moments import Moments, input_moments
from gramian.arch.structure import Step, Structure

__all__ = ["Moments", "Step", "Structure", "input_moments"]
