"""Networks as users see them: read from a torch module, with their limits, at any finite width, and by Monte Carlo."""

from gramian.network.architecture_type import Architecture
from gramian.network.finite_network import Network
from gramian.network.read_module import architecture
from gramian.network.sampling.monte_carlo import MonteCarlo, monte_carlo

__all__ = ["Architecture", "MonteCarlo", "Network", "architecture", "monte_carlo"]
