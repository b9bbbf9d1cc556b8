"""Hypothesis without a deadline: tests share their machine, and a slow example is no failure.

QLM_TEST_EXAMPLES: examples for each property (100 where it is not set; a nightly run takes thousands).
"""

import os

from hypothesis import settings

EXAMPLES = int(os.environ.get("QLM_TEST_EXAMPLES", "100"))

settings.register_profile("qlm", deadline=None, print_blob=True, max_examples=EXAMPLES)
settings.load_profile("qlm")
