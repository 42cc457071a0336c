"""Triton kernels for NVIDIA GPUs; each has a twin in plain torch for the CPU. Only this package needs triton."""
