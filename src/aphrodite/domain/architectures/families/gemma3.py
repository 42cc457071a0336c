"""Gemma 3 (arXiv 2503.19786): a Gemma 2 with normed queries and keys, whose layers with a window turn by a rope of
their own.
"""

from dataclasses import replace

from aphrodite.domain.architectures.config_fields import ConfigFields
from aphrodite.domain.architectures.families.gemma2 import read_gemma2
from aphrodite.domain.architectures.spec import DecoderSpec


def read_gemma3_text(config: ConfigFields) -> DecoderSpec:
    """Raises UnsupportedModelError."""
    return replace(read_gemma2(config), qk_norm=True)
