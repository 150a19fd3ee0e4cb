"""Running figures of versions: over the newest lists, compared on the same ones, mindful of chance."""

from __future__ import annotations

import numpy as np
import pytest

from stream.core.running_figures import Figures, RunningFigures


def test_a_hit_counts_in_the_first_twenty_and_a_rank_by_its_inverse() -> None:
    figures = RunningFigures(10)
    for rank in (1, 4, 20, 21, 0):
        figures.add("ann", {"1": rank})
    assert figures.of("1") == Figures(5, pytest.approx(0.6), pytest.approx((1 + 1 / 4 + 1 / 20) / 5))


def test_only_the_newest_lists_count() -> None:
    figures = RunningFigures(2)
    for rank in (0, 1, 1):
        figures.add("ann", {"1": rank})
    assert figures.of("1") == Figures(2, 1.0, 1.0)


def test_contestants_are_compared_on_the_lists_that_both_were_asked_about() -> None:
    figures = RunningFigures(10)
    figures.add("ann", {"1": 1})
    figures.add("ann", {"1": 2, "2": 1})
    figures.add("bob", {"1": 2, "2": 1})
    assert figures.of("1", "2") == Figures(2, 1.0, 0.5)
    assert figures.of("2", "1") == Figures(2, 1.0, 1.0)
    assert figures.difference("2", "1").lists == 2
    assert figures.difference("2", "1").mean == 0.5


def test_who_was_never_asked_has_no_figures() -> None:
    figures = RunningFigures(10)
    assert figures.of("1") == Figures(0, 0.0, 0.0)
    assert figures.difference("1", "2") == (0, 0.0, -np.inf, np.inf)


def test_chance_alone_is_no_difference() -> None:
    random = np.random.default_rng(3)
    surely = 0
    for _ in range(100):
        figures = RunningFigures(400)
        for number in range(400):
            figures.add(
                f"user-{number // 4}", {"1": int(random.integers(1, 30)), "2": int(random.integers(1, 30))}
            )
        found = figures.difference("1", "2")
        surely += not found.low <= 0 <= found.high
    assert surely <= 2


def test_a_difference_that_holds_is_seen() -> None:
    random = np.random.default_rng(3)
    figures = RunningFigures(1_000)
    for number in range(1_000):
        figures.add(
            f"user-{number // 4}", {"1": int(random.integers(1, 30)), "2": int(random.integers(1, 8))}
        )
    assert figures.difference("1", "2").high < -0.05


def test_many_lists_of_one_shopper_are_one_voice() -> None:
    many, one = RunningFigures(100), RunningFigures(100)
    for number in range(100):
        many.add(f"user-{number}", {"1": 1 + number % 2, "2": 2})
        one.add(f"user-{number // 50}", {"1": 1 + number // 50, "2": 2})
    assert many.difference("1", "2").low > 0
    assert one.difference("1", "2").low < 0


def test_one_shopper_says_nothing_surely() -> None:
    figures = RunningFigures(10)
    for _ in range(10):
        figures.add("ann", {"1": 9, "2": 1})
    assert figures.difference("1", "2").high == np.inf


def test_figures_go_on_from_their_entries() -> None:
    figures = RunningFigures(10)
    figures.add("ann", {"1": 3})
    assert RunningFigures(10, figures.entries()).of("1") == figures.of("1")
