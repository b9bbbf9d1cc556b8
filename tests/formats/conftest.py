"""Hypothesis without a deadline: tests share their machine, and a slow example is no failure."""

from hypothesis import settings

settings.register_profile("qlm", deadline=None, print_blob=True)
settings.load_profile("qlm")
