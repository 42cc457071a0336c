"""The activations that models name and backends compute."""

from typing import Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu"]
