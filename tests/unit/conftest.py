"""Settings of hypothesis for the unit tests: the same examples on every run, and no timing."""

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("ci")
