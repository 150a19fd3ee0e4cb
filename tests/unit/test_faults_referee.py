"""The referee finds what was lost, doubled or made up, and lets pass what at-least-once allows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from faults.evidence import Commits, Evidence, Incident, Letter, Published
from faults.lives import Former, Lives
from faults.publisher import Acknowledged
from faults.recovery import recovery_s
from faults.referee import EXPIRED, FORGOTTEN, GAVE_UP, STALE, UNUSED, ZOMBIE, judge, read_events, recount
from faults.shoppers import Message
from faults.story import tell
from faults.workers import Ended
from msgspec.structs import replace as replace_fields

from stream.core.events import RecommendationList, RecommendedItem, Source, Trigger
from stream.core.policy import Policy
from stream.core.signals import fold
from stream.core.state import apply, empty
from stream.ports import Place, RawMessage

T0 = 1_760_000_000_000


def click(offset: int, item_id: str, user_id: str = "ann", **more: Any) -> RawMessage:
    fields = {
        "event_id": f"e{offset}",
        "event_type": "view_item",
        "event_time": T0 + 1_000 * offset,
        "user_id": user_id,
        "item_id": item_id,
        **more,
    }
    source = Source("clicks", 0, offset, T0 + 1_000 * offset + 5)
    return RawMessage(source, user_id.encode(), json.dumps(fields).encode(), ())


def shown(trigger: RawMessage, sequence: int, offset: int, item: str = "x", late_ms: int = 20) -> Published:
    fields = json.loads(trigger.value or b"")
    made = RecommendationList(
        schema_version=1,
        recommendation_id=f"r{sequence}",
        user_id=fields["user_id"],
        placement="home",
        sequence=sequence,
        generated_at=trigger.source.timestamp_ms + 10,
        expires_at=T0 * 2,
        trigger=Trigger(fields["event_id"], *trigger.source[:3], fields["event_time"]),
        model_versions={},
        degraded=[],
        items=[RecommendedItem(item, 1, 1.0, "trending", "because")],
    )
    return Published(0, offset, trigger.source.timestamp_ms + late_ms, made)


def sound(
    events: Sequence[RawMessage], lists: Sequence[Published], lives: Mapping[Place, int] = {}
) -> Evidence:
    """What an engine that did everything right leaves behind."""
    bare = Evidence(searches_topic="searches", policy=Policy(), events=events, lists=lists, lives=lives)
    read = read_events(bare)
    states, taught = {}, []
    for user_id, own in read.events.items():
        state = empty(user_id)
        for event in own:
            state = apply(state, event, bare.policy)
        highest = max([0, *(one.made.sequence for one in lists if one.made.user_id == user_id)])
        states[user_id] = state._replace(sequence=highest)
        taught += list(recount(bare, own))
    rows = {name: fold(None, [one for item, one in taught if item == name]) for name, _ in taught}
    return replace(bare, states=states, increments=taught, rows=rows)


EVENTS = [click(0, "mug"), click(1, "clock"), click(2, "kettle")]
LISTS = [shown(event, 10 + number, number) for number, event in enumerate(EVENTS)]
ALL_RIGHT = sound(EVENTS, LISTS)


def found(evidence: Evidence) -> set[str]:
    return {one.what for one in judge(evidence).differences}


def test_a_sound_run_has_no_differences() -> None:
    committed = Commits(LISTS[-1].appended_ms + 1, {("clicks", 0): 3})
    verdict = judge(replace(ALL_RIGHT, commits=[committed]))
    assert verdict.differences == []
    assert not verdict.counted
    assert tell(verdict, ALL_RIGHT) == []


def test_one_list_may_answer_a_burst_and_a_replay_may_answer_again() -> None:
    assert found(sound(EVENTS, [shown(EVENTS[2], 10, 0), shown(EVENTS[2], 11, 1)])) == set()


def test_a_list_that_comes_twice_byte_for_byte_is_allowed() -> None:
    again = LISTS[-1]._replace(offset=9)
    assert found(sound(EVENTS, [*LISTS, again])) == set()


def test_a_lost_event_is_found_and_its_story_told() -> None:
    without = sound([EVENTS[0], EVENTS[2]], LISTS).states
    evidence = replace(ALL_RIGHT, states=without)
    verdict = judge(evidence)
    assert {one.what for one in verdict.differences} == {"state"}
    story = "\n".join(tell(verdict, evidence))
    assert "ann" in story
    assert "clicks/0/1" in story


def test_an_event_that_is_in_no_topic_and_yet_in_a_state_is_found() -> None:
    more = sound([*EVENTS, click(3, "frame")], LISTS).states
    assert found(replace(ALL_RIGHT, states=more)) == {"state"}


def test_an_event_that_no_list_answers_is_found() -> None:
    assert found(sound(EVENTS, LISTS[:2])) == {"an event was never answered"}


def test_a_sequence_that_goes_back_is_found() -> None:
    lists = [LISTS[0], LISTS[2], LISTS[1]]
    assert found(sound(EVENTS, lists)) == {"a sequence went back"}


def test_a_zombie_s_late_list_is_counted_apart() -> None:
    late = LISTS[1]._replace(offset=3, appended_ms=T0 + 30_000)
    zombie = Incident("zombie-worker", "worker-0", T0 + 1_500, T0 + 29_000)
    verdict = judge(replace(sound(EVENTS, [LISTS[0], LISTS[2], late]), incidents=[zombie]))
    assert verdict.differences == []
    assert verdict.counted == {ZOMBIE: 1}


@pytest.mark.parametrize(
    ("kind", "away_ms", "counted"),
    [("kill-kafka", 8_000, {EXPIRED: 1}), ("kill-kafka", 2_000, {}), ("kill-redis", 8_000, {})],
)
def test_a_late_list_of_a_session_that_ended_while_kafka_was_away_is_counted_apart(
    kind: str, away_ms: int, counted: dict[str, int]
) -> None:
    back_ms = T0 + 1_000 + away_ms
    late = LISTS[1]._replace(offset=3, appended_ms=back_ms + 500)
    away = Incident(kind, "", T0 + 1_000, back_ms)
    verdict = judge(replace(sound(EVENTS, [LISTS[0], LISTS[2], late]), incidents=[away]))
    assert verdict.counted == counted
    assert {one.what for one in verdict.differences} == (set() if counted else {"a sequence went back"})


def test_a_sequence_of_two_lists_is_found() -> None:
    other = shown(EVENTS[2], 12, 3, item="y")
    assert found(sound(EVENTS, [*LISTS, other])) == {"one sequence, two lists"}


def test_a_last_list_of_an_older_event_and_an_unused_sequence_are_counted() -> None:
    verdict = judge(sound(EVENTS, [*LISTS, shown(EVENTS[1], 20, 3)]))
    assert verdict.differences == []
    assert verdict.counted == {STALE: 1}
    states = {"ann": ALL_RIGHT.states["ann"]._replace(sequence=99)}
    assert judge(replace(ALL_RIGHT, states=states)).counted == {UNUSED: 1}


def test_a_trigger_that_is_no_event_is_found() -> None:
    assert "a wrong trigger" in found(sound(EVENTS, [*LISTS, shown(click(7, "mug"), 30, 3)]))


def test_a_list_beyond_what_was_reserved_is_found() -> None:
    states = {"ann": ALL_RIGHT.states["ann"]._replace(sequence=3)}
    assert found(replace(ALL_RIGHT, states=states)) == {"an unreserved sequence"}


def test_an_increment_that_is_missing_counted_twice_or_another_is_found() -> None:
    first, *rest = ALL_RIGHT.increments
    assert found(replace(ALL_RIGHT, increments=rest)) == {"increments"}
    item, _ = first
    row = ALL_RIGHT.rows[item]
    twice = row._replace(popularity=tuple(one + 1.0 for one in row.popularity))
    assert found(replace(ALL_RIGHT, rows={**ALL_RIGHT.rows, item: twice})) == {"item signals"}
    item = next(name for name, row in ALL_RIGHT.rows.items() if row.neighbours)
    more = ALL_RIGHT.rows[item]._replace(shoppers=ALL_RIGHT.rows[item].shoppers ^ 1)
    assert found(replace(ALL_RIGHT, rows={**ALL_RIGHT.rows, item: more})) == {"item signals"}
    assert found(replace(ALL_RIGHT, rows={})) == {"item signals"}
    assert found(replace(ALL_RIGHT, increments=[*ALL_RIGHT.increments, first])) == set()


def test_dead_letters_are_the_invalid_messages_and_no_others() -> None:
    bad = RawMessage(Source("clicks", 0, 3, T0 + 3_500), b"ann", b"[]", ())
    evidence = sound([*EVENTS, bad], LISTS)
    letter = Letter(("clicks", 0, 3), b"ann", b"[]", "not_an_object")
    assert found(evidence) == {"a letter is missing"}
    assert found(replace(evidence, letters=[letter, letter])) == set()
    assert found(replace(evidence, letters=[letter._replace(code="not_json")])) == {
        "a letter with another code"
    }
    assert found(replace(evidence, letters=[letter._replace(value=b"")])) == {"a letter with other bytes"}
    of_sound = Letter(("clicks", 0, 0), EVENTS[0].key, EVENTS[0].value, "internal")
    assert found(replace(evidence, letters=[letter, of_sound])) == {"a letter too many"}


@pytest.mark.parametrize(("committed", "differs"), [(1, False), (2, True)])
def test_a_commit_ahead_of_its_lists_is_found(committed: int, differs: bool) -> None:
    at_ms = LISTS[0].appended_ms + 1
    evidence = replace(ALL_RIGHT, commits=[Commits(at_ms, {("clicks", 0): committed})])
    assert found(evidence) == ({"committed too early"} if differs else set())


def test_events_of_a_topic_that_was_made_anew_count_besides_those_of_the_former_one() -> None:
    at_ms = T0 + 9_000
    anew = [click(offset, item, event_time=at_ms, event_id=f"n{offset}") for offset, item in enumerate("ab")]
    anew = [one._replace(source=one.source._replace(timestamp_ms=at_ms + 5)) for one in anew]
    put = [
        Acknowledged("clicks", 0, offset, Message("clicks", b"ann", (EVENTS + anew)[at].value))
        for at, offset in enumerate([0, 1, 2, 0, 1])
    ]
    lives = Lives([Former(EVENTS, 3, T0 + 5_000, T0 + 8_000, {("clicks", 0): T0})], anew)
    late = shown(EVENTS[0], 30, 9, late_ms=60_000)
    lists = [
        one._replace(made=replace_fields(one.made, trigger=lives.trigger(one.made.trigger)))
        for one in [*LISTS, *(shown(event, 20 + n, 5 + n) for n, event in enumerate(anew)), late]
    ]
    evidence = replace(
        sound(lives.events(), lists, lives.numbers()),
        acknowledged=list(lives.acknowledged(put)),
        commits=[Commits(at, lives.offsets(at, {("clicks", 0): 3})) for at in (T0 + 4_900, T0 + 7_000)],
    )
    verdict = judge(evidence)
    assert (verdict.differences, verdict.counted) == ([], {STALE: 1})
    assert {one.source for _, one in evidence.increments} == {"clicks/0", f"clicks/0@{T0}"}
    assert found(replace(evidence, states=ALL_RIGHT.states)) >= {"state"}
    ahead = Commits(T0 + 8_100, lives.offsets(T0 + 8_100, {("clicks", 0): 1}))
    assert found(replace(evidence, commits=[ahead])) == {"committed too early"}
    assert lives.letter(("clicks", 0, 1), b"ann", EVENTS[1].value) == ("clicks~0", 0, 1)
    assert lives.letter(("clicks", 0, 1), b"ann", anew[1].value) == ("clicks", 0, 1)


def test_a_message_that_the_broker_acknowledged_and_lost_is_found() -> None:
    put = Acknowledged("clicks", 0, 7, Message("clicks", b"ann", b"{}"))
    assert found(replace(ALL_RIGHT, acknowledged=[put])) == {"the broker lost a message"}


def test_what_is_never_committed_and_a_worker_that_dies_are_found() -> None:
    ended = [Ended("worker-1", 1, T0, T0 + 5_000)]
    evidence = replace(ALL_RIGHT, undrained={("clicks", 0): 2}, ended=ended)
    assert found(evidence) == {"not drained", "a worker died"}


def test_only_a_worker_that_ran_when_redis_forgot_may_end_to_be_started_again() -> None:
    forgot = Incident("empty-redis", "redis", T0 + 10_000, T0 + 14_000)
    before, after = Ended("worker-0", 4, T0, T0 + 15_000), Ended("worker-2", 4, T0 + 16_000, T0 + 20_000)
    verdict = judge(replace(ALL_RIGHT, incidents=[forgot], ended=[before]))
    assert verdict.differences == []
    assert verdict.counted == {FORGOTTEN: 1}
    assert found(replace(ALL_RIGHT, incidents=[forgot], ended=[before, after])) == {"a worker died"}
    assert found(replace(ALL_RIGHT, ended=[before])) == {"a worker died"}


def test_a_worker_may_give_up_only_where_kafka_was_away() -> None:
    away = Incident("kill-kafka", "kafka", T0 + 10_000, T0 + 14_000)
    ended = [Ended("worker-0", 3, T0, T0 + 12_000)]
    verdict = judge(replace(ALL_RIGHT, incidents=[away], ended=ended))
    assert (verdict.differences, verdict.counted) == ([], {GAVE_UP: 1})
    assert found(replace(ALL_RIGHT, ended=ended)) == {"a worker died"}
    assert found(replace(ALL_RIGHT, stuck=["worker-1"])) == {"a worker was never ready"}


def test_what_redis_forgot_is_recovered_from_when_commits_are_where_they_had_been() -> None:
    forgot = Incident("empty-redis", "redis", T0 + 10_000, T0 + 14_000)
    at = ("clicks", 0)
    commits = [
        Commits(T0 + 13_900, {at: 3}),
        Commits(T0 + 14_500, {at: 3}),
        Commits(T0 + 20_000, {at: 0}),
        Commits(T0 + 21_000, {at: 2}),
        Commits(T0 + 22_000, {at: 3}),
    ]
    assert recovery_s(replace(ALL_RIGHT, incidents=[forgot], commits=commits)) == {"empty-redis": [8.0]}
    not_yet = replace(ALL_RIGHT, incidents=[forgot], commits=commits[:-1])
    assert recovery_s(not_yet) == {}
