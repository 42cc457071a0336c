"""The C++ kernels for tensors."""
