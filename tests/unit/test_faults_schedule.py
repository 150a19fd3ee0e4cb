"""The schedule of faults is determined by its seed."""

import pytest
from faults.__main__ import main
from faults.kinds import APART, KINDS, terms
from faults.schedule import by_lane, plan


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert plan(3, 200, 60.0, terms()) == plan(3, 200, 60.0, terms())
    assert plan(3, 200, 60.0, terms()) != plan(4, 200, 60.0, terms())


def test_every_kind_comes_about_equally_often() -> None:
    counts = dict.fromkeys(KINDS, 0)
    for one in plan(1, 10 * len(KINDS), 60.0, terms()):
        counts[one.kind] += 1
    assert set(counts.values()) == {10}


def test_faults_stay_within_their_terms_and_in_order() -> None:
    planned = plan(2, 300, 60.0, terms())
    assert [one.at_s for one in planned] == sorted(one.at_s for one in planned)
    for one in planned:
        shortest, longest = KINDS[one.kind].hold_s
        assert 0.0 <= one.at_s <= 60.0
        assert shortest <= one.hold_s <= longest
        assert 0.0 <= one.pick < 1.0


def test_a_lane_keeps_the_order_and_nothing_is_left_out() -> None:
    planned = plan(5, 100, 60.0, terms())
    lanes = by_lane(planned, terms())
    assert sorted(one for lane in lanes.values() for one in lane) == planned
    for lane in lanes.values():
        assert lane == sorted(lane)


@pytest.mark.parametrize("apart", APART)
def test_what_cannot_be_got_back_is_not_mixed_with_a_redis_that_forgets(
    apart: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--plan", "--kinds", f"{apart},older-redis"]) == 2
    assert f"{apart} cannot be mixed with older-redis" in capsys.readouterr().err
    assert main(["--plan", "--kinds", f"{apart},kill-redis", "--faults", "4"]) == 0
    assert apart in capsys.readouterr().out
    assert main(["--plan"]) == 0
    assert apart not in capsys.readouterr().out
