"""Settings of all tests."""

from hypothesis import settings

# The same examples in every run: a check is red because of what changed, and never by luck.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("repeatable")
