"""What the runtime's exceptions mean."""

import jax


def is_out_of_memory(error: BaseException) -> bool:
    """Of a device, or of the host while numpy makes what is to go there."""
    is_devices = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return is_devices or isinstance(error, MemoryError)
