"""Kernels as averages over random networks, with their standard errors."""
