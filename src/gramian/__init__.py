"""Will gradient descent find the global minimum? Kernels, Gram matrices and convergence certificates for PyTorch."""

from gramian.arch import Architecture, architecture

__all__ = ["Architecture", "architecture"]
__version__ = "0.1.0"
