"""A dead server costs one probe now and then."""

from __future__ import annotations

import pytest

from stream.adapters.circuit_breaker import CircuitBreaker

JITTER = 1.2


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock, failures=3, pause_s=0.2, longest_pause_s=2.0)


def _open(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert breaker.is_open


def _pause(breaker: CircuitBreaker, clock: Clock) -> float:
    """How long until the next call is let through."""
    began_s = clock.now_s
    while not breaker.allows():
        clock.now_s += 0.005
    return clock.now_s - began_s


def test_a_closed_circuit_lets_every_call_through(breaker: CircuitBreaker) -> None:
    assert not breaker.is_open
    assert all(breaker.allows() for _ in range(100))


def test_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    breaker.failed()
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()


def test_a_success_in_between_begins_the_count_anew(breaker: CircuitBreaker) -> None:
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.allows()


def test_after_the_pause_one_probe_is_let_through_and_no_second(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    _open(breaker)
    assert not breaker.allows()
    clock.now_s += 0.2 * JITTER
    assert breaker.allows()
    assert not any(breaker.allows() for _ in range(10))


def test_a_probe_that_succeeds_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    _open(breaker)
    clock.now_s += 1
    assert breaker.allows()
    breaker.succeeded()
    assert not breaker.is_open
    assert all(breaker.allows() for _ in range(10))


def test_pauses_double_up_to_the_longest_and_are_jittered(breaker: CircuitBreaker, clock: Clock) -> None:
    _open(breaker)
    pauses = []
    for _ in range(7):
        pauses.append(_pause(breaker, clock))
        breaker.failed()
    for pause_s, base_s in zip(pauses, [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0], strict=True):
        assert 0.8 * base_s - 0.01 <= pause_s <= JITTER * base_s + 0.01


def test_after_a_recovery_pauses_begin_short_again(breaker: CircuitBreaker, clock: Clock) -> None:
    _open(breaker)
    for _ in range(5):
        _pause(breaker, clock)
        breaker.failed()
    _pause(breaker, clock)
    breaker.succeeded()
    _open(breaker)
    assert _pause(breaker, clock) <= 0.2 * JITTER + 0.01


def test_many_calls_that_fail_at_once_are_one_outage(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(64):
        assert breaker.allows()
    for _ in range(64):
        breaker.failed()
    assert _pause(breaker, clock) <= 0.2 * JITTER + 0.01


def test_a_probe_that_never_answers_does_not_keep_it_open_for_ever(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    _open(breaker)
    clock.now_s += 1
    assert breaker.allows()
    clock.now_s += 2.0
    assert breaker.allows()
