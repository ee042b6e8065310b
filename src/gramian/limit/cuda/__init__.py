"""The CUDA engine: limit kernels as device code, compiled when a network first needs it."""

from gramian.limit.cuda import images, vectors
from gramian.limit.cuda.device import DEVICES, missing

__all__ = ["DEVICES", "images", "missing", "vectors"]
