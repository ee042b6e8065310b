"""Infinite width: the exact kernels of an architecture."""

from gramian.limit.engines import explain, kernels
from gramian.limit.residual import ResidualKernels, allen_zhu_resnet_kernels
from gramian.limit.torch_engine import diagonals

__all__ = ["ResidualKernels", "allen_zhu_resnet_kernels", "diagonals", "explain", "kernels"]
