"""Networks as users see them: read from a torch module, with their limits, and at any finite width."""

from gramian.empirical.modules.kept_structure import forward_is_fixed
from gramian.network.architecture_type import Architecture
from gramian.network.finite_network import Network
from gramian.network.fixed_forward import structure_of
from gramian.network.read_module import architecture

__all__ = ["Architecture", "Network", "architecture"]

# what a kernel needs to know of such a network is proved once for networks of one structure
forward_is_fixed(Network, structure_of)
