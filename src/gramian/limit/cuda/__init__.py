"""The CUDA engine: limit kernels as device code, compiled when a network first needs it."""

from gramian.limit.cuda import images, vectors
from gramian.limit.cuda.device import DEVICES, check_gpu

__all__ = ["DEVICES", "check_gpu", "images", "vectors"]
