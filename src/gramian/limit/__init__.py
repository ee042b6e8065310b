"""Infinite width: the exact kernels of an architecture."""

from gramian.limit.residual import ResidualKernels, allen_zhu_resnet_kernels
from gramian.limit.torch_engine import diagonals, kernels

__all__ = ["ResidualKernels", "allen_zhu_resnet_kernels", "diagonals", "kernels"]
