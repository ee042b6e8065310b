"""Kernels averaged over random networks."""
