"""The CUDA engine: limit kernels as device code, compiled when a network first needs it."""
