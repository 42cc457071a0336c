"""Settings of all tests."""

import os

from hypothesis import settings

# Triton reads this when it is first imported, whichever test does that; `make test-gpu` sets it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")

# The same examples in every run: a check is red because of what changed, and never by luck.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("repeatable")
