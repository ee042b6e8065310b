"""Networks as users see them: read from a torch module, with their limits, and at any finite width."""

from gramian.network.architecture_type import Architecture
from gramian.network.finite_network import Network
from gramian.network.read_module import architecture

__all__ = ["Architecture", "Network", "architecture"]
