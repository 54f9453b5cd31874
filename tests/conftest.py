"""Settings of all tests: property tests draw the same examples each time, and have no clock."""

from hypothesis import settings

settings.register_profile("shardwise", deadline=None, derandomize=True)
settings.load_profile("shardwise")
