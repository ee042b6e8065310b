"""Infinite width: the exact kernels of an architecture."""

from gramian.limit.torch_engine import kernels

__all__ = ["kernels"]
