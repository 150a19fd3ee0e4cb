"""A circuit breaker, so that a dead server costs one probe now and then and not a timeout per batch."""

from __future__ import annotations

import random
from collections.abc import Callable


class CircuitBreaker:
    """Open after `failures` in a row; then let one probe through after each pause, which doubles.

    Args:
        now_s: a monotonic clock in seconds.
        failures: this many in a row open the circuit.
        pause_s: first pause; doubles up to `longest_pause_s`, with jitter.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        failures: int = 3,
        pause_s: float = 0.2,
        longest_pause_s: float = 2.0,
    ) -> None:
        self._now_s = now_s
        self._limit = failures
        self._first_pause_s = pause_s
        self._longest_pause_s = longest_pause_s
        self._failures = 0
        self._pause_s = pause_s
        self._probe_at_s = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused but for probes."""
        return self._failures >= self._limit

    def allows(self) -> bool:
        """Whether a call may be made now; where the circuit is open, a yes is the one probe."""
        if not self.is_open:
            return True
        if self._now_s() < self._probe_at_s:
            return False
        self._probe_at_s = self._now_s() + self._longest_pause_s
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Close the circuit."""
        self._failures = 0
        self._probing = False
        self._pause_s = self._first_pause_s

    def failed(self) -> None:
        """Count a failure; where it was the probe's, wait longer for the next one."""
        if self.is_open and not self._probing:
            return  # of a call that began before the circuit opened: a burst of them is one outage
        self._failures += 1
        if self.is_open:
            self._probing = False
            self._probe_at_s = self._now_s() + self._pause_s * random.uniform(0.8, 1.2)
            self._pause_s = min(2 * self._pause_s, self._longest_pause_s)
