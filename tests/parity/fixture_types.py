"""The types of the fixtures."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.parity.reference import Reference

from aphrodite import LLM

OpenLlm = Callable[..., AbstractContextManager[LLM]]
"""A checkpoint's name or path, and options of `LLM`, to the engine under test."""

Folders = Callable[[str], Path]
References = Callable[[str], Reference]
