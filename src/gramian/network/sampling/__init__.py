"""Kernels as averages over random networks, with their standard errors."""

from gramian.network.sampling.monte_carlo import MonteCarlo, monte_carlo

__all__ = ["MonteCarlo", "monte_carlo"]
