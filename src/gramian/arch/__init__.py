"""What a network is: read from a torch module, printed, drawn at any width."""

from gramian.arch.architecture import Architecture, Step
from gramian.arch.moments import Moments, input_moments
from gramian.arch.network import Network
from gramian.arch.read_module import architecture

__all__ = ["Architecture", "Moments", "Network", "Step", "architecture", "input_moments"]
