"""C++ kernels for a CPU, compiled on the machine that runs them."""
