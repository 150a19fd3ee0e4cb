"""Off-policy estimates against a simulator whose truth is known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream.core.policy import ExplorationPolicy, Policy
from stream.errors import WrongFile
from stream.evaluation import off_policy
from stream.evaluation.off_policy import evaluated, laid_out, read
from stream.evaluation.simulator import Simulator

LOGGED = Policy(list_length=6, exploration=ExplorationPolicy(slots=4, share=0.6, place=2))
OTHER = Policy(list_length=6, exploration=ExplorationPolicy(slots=4, share=0.95, place=2, strength=3.0))
NEVER = Policy(list_length=6, exploration=ExplorationPolicy(slots=0))
REPETITIONS, LISTS = 100, 150


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(seed=1)


@pytest.mark.parametrize("other", [OTHER, NEVER], ids=["explores more", "never explores"])
def test_intervals_hold_the_truth_in_about_95_of_100_logs_and_the_plain_mean_does_not(
    simulator: Simulator, other: Policy
) -> None:
    truth = simulator.value(other)
    held = dict.fromkeys(("ips", "snips", "dr", "logged"), 0)
    for seed in range(REPETITIONS):
        found = evaluated(simulator.log(LOGGED, other, LISTS, seed))
        for name in held:
            one = getattr(found, name)
            held[name] += one.low <= truth <= one.high
    # Of 100 draws at .95 fewer than 87 are held in 1 of 1,000 cases.
    assert {name: count for name, count in held.items() if name != "logged" and count < 87} == {}
    assert held["logged"] < 0.7 * REPETITIONS


def test_estimates_come_near_the_truth_with_many_lists_and_doubly_robust_is_the_surest(
    simulator: Simulator,
) -> None:
    found = evaluated(simulator.log(LOGGED, OTHER, 2_000, 1))
    truth = simulator.value(OTHER)
    for one in (found.ips, found.snips, found.dr):
        assert one.value == pytest.approx(truth, rel=0.06)
    assert found.dr.high - found.dr.low < found.ips.high - found.ips.low
    assert found.warnings == []


def test_a_policy_is_worth_what_was_logged_of_it(simulator: Simulator) -> None:
    found = evaluated(simulator.log(LOGGED, LOGGED, 500, 2))
    assert found.ips.value == pytest.approx(found.logged.value)
    assert found.effective_items == pytest.approx(6 * 500)
    assert found.largest_weight == pytest.approx(1.0)


def test_it_is_said_where_the_log_never_shows_what_the_other_policy_does(simulator: Simulator) -> None:
    found = evaluated(simulator.log(NEVER, OTHER, 200, 3))
    assert found.unsupported > 0.3
    assert "never shown by the logged one" in found.warnings[0]


def test_it_is_said_where_few_lists_carry_the_weight(simulator: Simulator) -> None:
    found = evaluated(simulator.log(LOGGED, OTHER, 10, 4))
    assert any("log more, or" in warning for warning in found.warnings)


def test_lists_of_one_shopper_count_as_one_draw(simulator: Simulator) -> None:
    log = simulator.log(LOGGED, OTHER, 400, 5)
    alone = evaluated(log)
    together = evaluated(log._replace(groups=np.arange(400) // 40))
    assert together.ips.value == alone.ips.value
    assert together.ips != alone.ips


def test_a_log_in_a_file_says_the_same(simulator: Simulator, tmp_path: Path) -> None:
    lines = list(simulator.lines(LOGGED, 50, 6))
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, lines)) + b"\n\n")
    found = off_policy.figures(evaluated(read(path, OTHER)))
    assert found == off_policy.figures(evaluated(laid_out(lines, OTHER)))
    assert found == off_policy.figures(evaluated(simulator.log(LOGGED, OTHER, 50, 6)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{}", "line 1: Object missing required field `list_id`"),
        ("[", "line 1"),
        (
            '{"list_id":"l","user_id":"u","candidates":[{"item_id":"a","score":1,"propensity":0,"shown":true}]}',
            "line 1: a was shown, so its propensity is above 0",
        ),
        (
            '{"list_id":"l","user_id":"u","candidates":[{"item_id":"a","score":1,"propensity":1.5}]}',
            "line 1: Expected `float` <= 1.0",
        ),
        ("", "no line holds a list"),
    ],
)
def test_a_faulty_log_is_refused_with_its_place_and_reason(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(line)
    with pytest.raises(WrongFile, match=said.replace("[", r"\[")):
        read(path, OTHER)
