"""A worker on a machine whose clock is wrong: python -P load_tests/faults/skewed_worker.py SECONDS

What is wrong is what Python tells this process of the time of day, `time.time` and `time.time_ns`, which the
engine's own code and its clients go by; clocks that only measure how long something takes are right.
"""

from __future__ import annotations

import sys
import time

ahead_s = int(sys.argv[1])
true_s, true_ns = time.time, time.time_ns
time.time = lambda: true_s() + ahead_s
time.time_ns = lambda: true_ns() + ahead_s * 1_000_000_000

from stream.config import load_config  # noqa: E402, the clock is wrong before anything takes it
from stream.worker import run_worker  # noqa: E402

raise SystemExit(run_worker(load_config()))
