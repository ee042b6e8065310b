"""Infinite width: the exact kernels of an architecture."""

from gramian.limit.kernels import kernels

__all__ = ["kernels"]
