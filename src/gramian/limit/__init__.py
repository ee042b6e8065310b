"""Infinite width: the exact kernels of an architecture."""

from gramian.limit.diagonal_tiles import diagonals
from gramian.limit.engines import explain, kernels
from gramian.limit.residual import ResidualKernels, allen_zhu_resnet_kernels

__all__ = ["ResidualKernels", "allen_zhu_resnet_kernels", "diagonals", "explain", "kernels"]
