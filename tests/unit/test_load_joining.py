"""Each event is joined to the list that answers it, whichever of both becomes known first."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic.joining import Answer, Joining, ListHead, Place, Trigger

CLICK_1, CLICK_2, SEARCH = (
    Place("clicks", 3, 10, 100),
    Place("clicks", 3, 12, 140),
    Place("searches", 3, 7, 120),
)


class Told:
    """A joining, and what it answered by the time of sending."""

    def __init__(self) -> None:
        self.answers: dict[float, Answer] = {}
        self.joining = Joining(lambda answer: self.answers.update({answer.intended_s: answer}))
        self._sequence = itertools.count(1)

    def list_for(self, event_id: str, place: Place, appended_ms: int, read_s: float, **more: object) -> None:
        trigger = Trigger(event_id, *place[:3])
        given = {"sequence": next(self._sequence), "degraded": [], **more}
        self.joining.listed(ListHead(user_id="ann", trigger=trigger, **given), appended_ms, read_s)  # type: ignore[arg-type]


def test_a_list_answers_the_event_it_names_and_times_run_from_the_intended_send() -> None:
    told = Told()
    told.joining.sent("a", "ann", 1.0)
    assert told.joining.waiting == 1
    told.joining.acknowledged("a", CLICK_1)
    told.list_for("a", CLICK_1, 117, 1.25)
    assert told.answers == {1.0: Answer(1.0, 1.25, 17, "named")}
    assert told.joining.waiting == 0
    assert told.joining.conclude() == []


def test_events_of_one_partition_that_coalesced_are_answered_by_the_list_that_covers_them() -> None:
    told = Told()
    for name, at_s, place in (("a", 1.0, CLICK_1), ("b", 2.0, CLICK_2)):
        told.joining.sent(name, "ann", at_s)
        told.joining.acknowledged(name, place)
    told.list_for("b", CLICK_2, 160, 2.5)
    assert told.answers == {1.0: Answer(1.0, 2.5, 60, "coalesced"), 2.0: Answer(2.0, 2.5, 20, "named")}


def test_a_list_that_takes_less_into_account_does_not_answer() -> None:
    told = Told()
    told.joining.sent("b", "ann", 2.0)
    told.joining.acknowledged("b", CLICK_2)
    told.list_for("a", CLICK_1, 130, 2.5)
    assert told.answers == {}
    assert told.joining.conclude() == [2.0]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_it_does_not_matter_whether_the_broker_answers_before_or_after_the_list_is_read(
    order: tuple[int, ...],
) -> None:
    told = Told()
    for name, at_s in (("a", 1.0), ("b", 2.0)):
        told.joining.sent(name, "ann", at_s)
    steps = [
        lambda: told.joining.acknowledged("a", CLICK_1),
        lambda: told.joining.acknowledged("b", CLICK_2),
        lambda: told.list_for("b", CLICK_2, 160, 2.5),
    ]
    for step in order:
        steps[step]()
    assert [told.answers[at_s].how for at_s in (1.0, 2.0)] == ["coalesced", "named"]


@pytest.mark.parametrize("late", [False, True])
def test_an_event_of_the_other_topic_is_covered_by_a_later_trigger_unless_a_list_names_it(late: bool) -> None:
    told = Told()
    for name, at_s, place in (("s", 1.0, SEARCH), ("b", 2.0, CLICK_2)):
        told.joining.sent(name, "ann", at_s)
        told.joining.acknowledged(name, place)
    told.list_for("b", CLICK_2, 160, 2.5)
    assert told.joining.waiting == 0, "likely answered"
    if late:
        told.list_for("s", SEARCH, 190, 2.9)
    assert told.joining.conclude() == []
    expected = Answer(1.0, 2.9, 70, "named") if late else Answer(1.0, 2.5, 40, "coalesced_across_topics")
    assert told.answers[1.0] == expected


def test_a_trigger_that_was_appended_earlier_covers_nothing_of_the_other_topic() -> None:
    told = Told()
    for name, at_s, place in (("a", 1.0, CLICK_1), ("s", 2.0, SEARCH)):
        told.joining.sent(name, "ann", at_s)
        told.joining.acknowledged(name, place)
    told.list_for("a", CLICK_1, 160, 2.5)
    assert told.joining.waiting == 1
    assert told.joining.conclude() == [2.0]


def test_what_a_reader_drops_answers_nothing() -> None:
    told = Told()
    for name, at_s, place in (("a", 1.0, CLICK_1), ("b", 2.0, CLICK_2)):
        told.joining.sent(name, "ann", at_s)
        told.joining.acknowledged(name, place)
    told.list_for("a", CLICK_1, 120, 1.5, sequence=50)
    told.list_for("b", CLICK_2, 160, 2.5, sequence=49)
    told.list_for("b", CLICK_2, 160, 2.5, sequence=60, reordered=True)
    assert set(told.answers) == {1.0}
    assert (told.joining.lists, told.joining.repeated) == (2, 1)
    assert told.joining.conclude() == [2.0]


def test_lists_of_others_are_passed_over_and_what_kafka_did_not_take_waits_for_none() -> None:
    told = Told()
    told.list_for("a", CLICK_1, 160, 2.5)
    assert told.joining.lists == 0
    told.joining.sent("a", "ann", 1.0)
    told.joining.lost("a")
    assert told.joining.waiting == 0
    assert told.joining.conclude() == []


@given(st.data())
def test_whatever_batches_a_worker_makes_every_event_is_answered_by_the_list_that_covers_it(
    data: Any,
) -> None:
    """Two partitions are taken in batches of their own pace; acknowledgements and lists come in any order."""
    topics = data.draw(st.lists(st.sampled_from(["clicks", "searches"]), min_size=1, max_size=12))
    ahead = {"clicks": 0, "searches": 0}
    places = []
    for at, topic in enumerate(topics):
        places.append(Place(topic, 0, ahead[topic], 100 + 10 * at))
        ahead[topic] += 1
    left = {topic: [at for at, one in enumerate(topics) if one == topic] for topic in ahead}
    covered: dict[int, int] = {}
    lists = []
    pace = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8))
    for counts in [*pace, (len(topics), len(topics))]:
        taken = []
        for waiting, count in zip(left.values(), counts, strict=True):
            taken += waiting[:count]
            del waiting[:count]
        if taken:
            covered |= dict.fromkeys(taken, len(lists))
            lists.append(max(taken))

    told = Told()
    for at in range(len(topics)):
        told.joining.sent(str(at), "ann", float(at))
    steps = data.draw(st.permutations([*range(len(topics)), *["list"] * len(lists)]))
    read = 0
    for step in steps:
        if step == "list":
            told.list_for(str(lists[read]), places[lists[read]], 1_000 + read, 1_000.0 + read)
            read += 1
        else:
            told.joining.acknowledged(str(step), places[step])
    assert told.joining.conclude() == []
    assert told.joining.waiting == 0
    assert sorted(told.answers) == [float(at) for at in range(len(topics))]
    for at, answer in ((int(at_s), answer) for at_s, answer in told.answers.items()):
        if answer.how == "coalesced_across_topics":
            assert answer.read_s <= 1_000 + covered[at], "the first that may have covered it"
            assert lists[int(answer.read_s) - 1_000] > at
        else:
            assert answer.read_s == 1_000 + covered[at]
