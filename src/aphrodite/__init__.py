"""Aphrodite: a serving engine for vision-language models."""
