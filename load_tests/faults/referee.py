"""Compare what is left after faults with what must hold.

Allowed, since a batch whose worker died is worked on again: the same list again under a higher sequence, the
same record twice, several events answered by the list of the newest, a sequence that was reserved and never
used, the same dead letter twice. Such things are counted. A difference is what no crash may cause.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from faults.engine import SESSION_TIMEOUT_S
from faults.evidence import Evidence, Published
from faults.lives import real
from faults.workers import Ended
from stream.core.bots import impossible
from stream.core.events import Event, ImpressionEvent, Source, decode_click, decode_search
from stream.core.signals import Increment, ItemSignals, fold, increments
from stream.core.state import UserState, apply, empty
from stream.errors import InvalidMessage
from stream.process.endings import Ending

ZOMBIE = "a list of a worker that was stopped beyond its session came after its successor's"
EXPIRED = "a list of a worker whose session ended while Kafka was away came after its successor's"
STALE = "the last list names an older event than the newest, which an earlier list answered"
REPEATED = "a list was published twice, byte for byte"
UNUSED = "a sequence was reserved and never used"
LETTER_TWICE = "a dead letter was published twice"
INCREMENT_TWICE = "an increment was published twice"
FORGOTTEN = "a worker ended to be started again, since Redis had forgotten or topics were made anew"

GAVE_UP = "a worker ended to be started again, since Kafka was away while it joined"

LOSSES = ("older-redis", "empty-redis")
ANEW = ("recreated-topics",)
KAFKA_AWAY = ("kill-kafka", "freeze-kafka", "full-disk-of-kafka", "cut-off-kafka", "half-open-kafka")

CLOCK_MS = 1_000
"""How exactly a fault's own times are known."""
POPULARITY_TOLERANCE = 1e-6
"""log2, sums of doubles in another order; counting one of n twice would add log2((n + 1) / n)."""
WEIGHT_TOLERANCE = 0.01
"""log2, sums kept in 32 bits."""


AppendTimes = Mapping[tuple[str, int, int], int]


class Difference(NamedTuple):
    """Something that no fault may cause; `user_id` is "" where it is about no shopper."""

    what: str
    user_id: str
    said: str
    source: Source | None = None


@dataclass
class Verdict:
    """What differs, and how often what is allowed or known happened."""

    differences: list[Difference] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)


class Read(NamedTuple):
    """The events as they must have been understood, in the order of each partition."""

    events: dict[str, list[Event]]
    impressions: list[ImpressionEvent]
    invalid: dict[tuple[str, int, int], str]


def judge(evidence: Evidence) -> Verdict:
    """Compare everything. Whatever cannot be read as it is written raises."""
    verdict = Verdict()
    read = read_events(evidence)
    lists: dict[str, list[Published]] = defaultdict(list)
    for one in evidence.lists:
        lists[one.made.user_id].append(one)
    verdict.differences += _of_the_run(evidence, verdict.counted)
    verdict.differences += _of_acknowledged(evidence)
    for user_id in sorted(read.events.keys() | lists.keys()):
        events, made = read.events.get(user_id, []), lists[user_id]
        verdict.differences += _of_state(evidence, user_id, events)
        verdict.differences += _of_sequences(evidence, made, verdict.counted)
        verdict.differences += _of_last_list(evidence, user_id, events, made, verdict.counted)
    verdict.differences += _of_letters(evidence, read, verdict.counted)
    verdict.differences += _of_signals(evidence, read, verdict.counted)
    verdict.differences += _of_commits(evidence, read, lists)
    return verdict


def covers(made: Published, event: Event, appended_ms: AppendTimes) -> bool:
    """Whether a list answers an event: its trigger is that event or a later one.

    In one partition the order tells, between two topics the broker's clock.
    """
    trigger = made.made.trigger
    if (trigger.topic, trigger.partition) == event.source[:2]:
        return trigger.offset >= event.source.offset
    place = (trigger.topic, trigger.partition, trigger.offset)
    return appended_ms.get(place, 0) >= event.source.timestamp_ms


def append_times(evidence: Evidence) -> AppendTimes:
    """When each event was appended, by place."""
    return {source[:3]: source.timestamp_ms for source, _, _, _ in evidence.events}


def read_events(evidence: Evidence) -> Read:
    """Understand every message as the engine must."""
    read = Read({}, [], {})
    for source, key, value, _ in evidence.events:
        decode = decode_search if real(source.topic) == evidence.searches_topic else decode_click
        try:
            event = decode(source, key, value)
        except InvalidMessage as error:
            read.invalid[source[:3]] = error.code
        else:
            if isinstance(event, ImpressionEvent):
                read.impressions.append(event)
            else:
                read.events.setdefault(event.user_id, []).append(event)
    return read


def _of_the_run(evidence: Evidence, counted: Counter[str]) -> Iterator[Difference]:
    for (topic, partition), count in evidence.undrained.items():
        yield Difference("not drained", "", f"{count} messages of {topic}/{partition} were never committed")
    for said in evidence.stuck:
        yield Difference("a worker was never ready", "", said)
    for one in evidence.ended:
        if one.code == Ending.FORGOTTEN and _saw((*LOSSES, *ANEW), evidence, one):
            counted[FORGOTTEN] += 1
        elif one.code == Ending.GAVE_UP and _saw(KAFKA_AWAY, evidence, one):
            counted[GAVE_UP] += 1
        else:
            yield Difference("a worker died", "", f"{one.name} ended by itself with {one.code}")


def _saw(kinds: Sequence[str], evidence: Evidence, one: Ended) -> bool:
    """Whether such a fault happened while a worker ran; one that was started later has nothing to miss."""
    return any(
        incident.kind in kinds
        and one.started_ms <= incident.ended_ms + CLOCK_MS
        and incident.begun_ms <= one.ended_ms + CLOCK_MS
        for incident in evidence.incidents
    )


def _of_acknowledged(evidence: Evidence) -> Iterator[Difference]:
    lying = {source[:3]: (key, value) for source, key, value, _ in evidence.events}
    for topic, partition, offset, message in evidence.acknowledged:
        if lying.get((topic, partition, offset)) != (message.key, message.value):
            said = f"{topic}/{partition}/{offset} was acknowledged and does not hold what was sent"
            yield Difference("the broker lost a message", (message.key or b"").decode(), said)


def _of_state(evidence: Evidence, user_id: str, events: list[Event]) -> Iterator[Difference]:
    """The fold of the events, whatever their order, and nothing else."""
    expected = empty(user_id)
    for event in events:
        expected = apply(expected, event, evidence.policy)
    found = evidence.states.get(user_id, empty(user_id))
    if found.facts == expected.facts:
        return
    missing = _facts(expected) - _facts(found)
    surplus = _facts(found) - _facts(expected)
    source = next((event.source for event in events if _facts_of(event, evidence) & missing), None)
    said = f"of {len(events)} events, {len(missing)} facts are missing and {len(surplus)} are too many"
    examples = [
        *(f"missing {one}" for one in sorted(missing, key=repr)),
        *(f"surplus {one}" for one in surplus),
    ]
    yield Difference("state", user_id, "; ".join([said, *examples[:4]]), source)


def _facts(state: UserState) -> set[tuple[object, ...]]:
    return {*state.interactions, *state.searches, *state.owned}


def _facts_of(event: Event, evidence: Evidence) -> set[tuple[object, ...]]:
    return _facts(apply(empty(event.user_id), event, evidence.policy))


def _of_sequences(evidence: Evidence, lists: list[Published], counted: Counter[str]) -> Iterator[Difference]:
    """In the order in which readers get them."""
    highest = 0
    known: dict[int, Published] = {}
    for one in lists:
        sequence = one.made.sequence
        before = known.setdefault(sequence, one)
        if before is not one:
            if before.made != one.made:
                said = f"sequence {sequence} names two lists, at offsets {before.offset} and {one.offset}"
                yield Difference("one sequence, two lists", one.made.user_id, said, _source(one))
            else:
                counted[REPEATED] += 1
        if sequence < highest:
            if _of_a_zombie(evidence, one):
                counted[ZOMBIE] += 1
            elif _of_an_expired_session(evidence, one):
                counted[EXPIRED] += 1
            else:
                said = f"sequence {sequence} came after {highest}, at offset {one.offset}"
                yield Difference("a sequence went back", one.made.user_id, said, _source(one))
        highest = max(highest, sequence)


def _of_a_zombie(evidence: Evidence, one: Published) -> bool:
    """Whether a list was made before a worker was stopped beyond its session, and published after."""
    return any(
        incident.kind == "zombie-worker"
        and incident.ended_ms - incident.begun_ms > SESSION_TIMEOUT_S * 1_000
        and one.made.generated_at <= incident.begun_ms + CLOCK_MS
        and one.appended_ms >= incident.ended_ms - CLOCK_MS
        for incident in evidence.incidents
    )


def _of_an_expired_session(evidence: Evidence, one: Published) -> bool:
    """Whether a list was published as Kafka came back after longer than a session.

    It knows none of the group's members then; each learns from its next heartbeat that others have its work.
    """
    return any(
        incident.kind in KAFKA_AWAY
        and incident.ended_ms - incident.begun_ms > SESSION_TIMEOUT_S * 1_000
        and incident.begun_ms <= one.made.generated_at
        and one.appended_ms <= incident.ended_ms + SESSION_TIMEOUT_S * 1_000
        for incident in evidence.incidents
    )


def _of_last_list(
    evidence: Evidence, user_id: str, events: list[Event], lists: list[Published], counted: Counter[str]
) -> Iterator[Difference]:
    newest = list({event.source[:2]: event for event in events}.values())
    appended_ms = append_times(evidence)
    for event in newest:
        if not any(covers(one, event, appended_ms) for one in lists):
            said = f"no list names {_place(event.source)} ({event.event_id}) or a later event"
            yield Difference("an event was never answered", user_id, said, event.source)
    if not lists:
        return
    if not events:
        yield Difference("a list for nobody", user_id, "a list answers no event", _source(lists[0]))
        return
    last = max(lists, key=lambda one: one.made.sequence)
    trigger = last.made.trigger
    place = (trigger.topic, trigger.partition, trigger.offset)
    named = {event.source[:3]: event for event in events}.get(place)
    if named is None or named.event_id != trigger.event_id:
        said = f"the last list, {last.made.sequence}, names {place}, which is no event of this shopper"
        yield Difference("a wrong trigger", user_id, said, _source(last))
    elif named not in newest:
        counted[STALE] += 1
    reserved = evidence.states.get(user_id, empty(user_id)).sequence
    if reserved < last.made.sequence:
        said = f"the last list is {last.made.sequence}, and only {reserved} was ever reserved"
        yield Difference("an unreserved sequence", user_id, said, _source(last))
    elif reserved > last.made.sequence:
        counted[UNUSED] += 1


def _of_letters(evidence: Evidence, read: Read, counted: Counter[str]) -> Iterator[Difference]:
    """One for each message that can never be used, with its bytes and its code, and none for another."""
    lying = {source[:3]: (key, value) for source, key, value, _ in evidence.events}
    found: set[tuple[str, int, int]] = set()
    for letter in evidence.letters:
        if letter.source in found:
            counted[LETTER_TWICE] += 1
        found.add(letter.source)
        place = "/".join(map(str, letter.source))
        key, value = lying.get(letter.source, (None, None))
        if letter.source not in read.invalid:
            yield Difference("a letter too many", "", f"{place} is sound, its letter says {letter.code}")
        elif read.invalid[letter.source] != letter.code:
            said = f"{place} is {read.invalid[letter.source]}, its letter says {letter.code}"
            yield Difference("a letter with another code", "", said)
        elif (letter.key, letter.value) != (key, value):
            yield Difference("a letter with other bytes", "", f"{place} is not what its letter holds")
    for source in sorted(read.invalid.keys() - found):
        said = f"{'/'.join(map(str, source))} is {read.invalid[source]} and has no letter"
        yield Difference("a letter is missing", "", said)


def recount(evidence: Evidence, events: list[Event]) -> Iterator[tuple[str, Increment]]:
    """What one shopper's events teach about items, event by event in the order of the partition."""
    state = empty(events[0].user_id)
    for event in events:
        after = apply(state, event, evidence.policy)
        if impossible(after, event.at_ms, evidence.policy) is None:
            life = evidence.lives.get(event.source[:2], 0)
            named = event._replace(source=event.source._replace(topic=real(event.source.topic)))
            yield from increments(state, after, named, evidence.policy, life).items()
        state = after


def _of_signals(evidence: Evidence, read: Read, counted: Counter[str]) -> Iterator[Difference]:
    expected: dict[str, dict[tuple[str, int], tuple[str, Increment]]] = defaultdict(dict)
    for user_id, events in read.events.items():
        for item_id, increment in recount(evidence, events):
            expected[item_id][increment.source, increment.offset] = (user_id, increment)
    found: dict[str, dict[tuple[str, int], Increment]] = defaultdict(dict)
    for item_id, increment in evidence.increments:
        place = (increment.source, increment.offset)
        if place in found[item_id]:
            counted[INCREMENT_TWICE] += 1
        if found[item_id].setdefault(place, increment) != increment:
            yield Difference("increments", "", f"{item_id}: two increments of {place} differ")
    for item_id in sorted(expected.keys() | found.keys()):
        wanted, there = expected[item_id], found[item_id]
        for place in sorted(wanted.keys() | there.keys()):
            user_id, taught = wanted.get(place, ("", None))
            if there.get(place) != taught:
                said = f"{item_id}: {place} teaches {taught}, published is {there.get(place)}"
                yield Difference("increments", user_id, said)
        ordered = [wanted[place][1] for place in sorted(wanted)]
        yield from _of_row(item_id, fold(None, ordered), evidence.rows.get(item_id))


def _of_row(item_id: str, expected: ItemSignals, found: ItemSignals | None) -> Iterator[Difference]:
    if found is None:
        yield Difference("item signals", "", f"{item_id} has no row")
        return
    if dict(found.applied) != dict(expected.applied):
        said = f"{item_id}: taken up to {dict(found.applied)}, expected {dict(expected.applied)}"
        yield Difference("item signals", "", said)
    if not np.allclose(found.popularity, expected.popularity, rtol=0, atol=POPULARITY_TOLERANCE):
        said = f"{item_id}: popularity is {found.popularity}, a recount gives {expected.popularity}"
        yield Difference("item signals", "", said)
    if set(found.neighbours) != set(expected.neighbours):
        yield Difference("item signals", "", f"{item_id}: other neighbours than a recount gives")
        return
    places = [found.neighbours.index(name) for name in expected.neighbours]
    for name in ("forward", "backward", "recent", "next"):
        one, other = getattr(expected, name), getattr(found, name)[places]
        if not np.allclose(one, other, rtol=0, atol=WEIGHT_TOLERANCE):
            yield Difference("item signals", "", f"{item_id}: other weights `{name}` than a recount gives")
    if not np.array_equal(expected.shoppers, found.shoppers[places]):
        yield Difference("item signals", "", f"{item_id}: other sketches of shoppers than a recount gives")


def _of_commits(evidence: Evidence, read: Read, lists: dict[str, list[Published]]) -> Iterator[Difference]:
    """Whatever was committed at a time had been answered, or had its letter, before it."""
    waiting = sorted(
        (event for events in read.events.values() for event in events), key=lambda event: event.source[:3]
    )
    appended_ms = append_times(evidence)
    for at_ms, offsets in evidence.commits:
        left = []
        for event in waiting:
            if event.source.offset >= offsets.get(event.source[:2], 0):
                left.append(event)
            elif not any(
                one.appended_ms <= at_ms and covers(one, event, appended_ms) for one in lists[event.user_id]
            ):
                said = f"{_place(event.source)} was committed by {at_ms} and its list was not there"
                yield Difference("committed too early", event.user_id, said, event.source)
        waiting = left


def _place(source: Source) -> str:
    return f"{source.topic}/{source.partition}/{source.offset}"


def _source(one: Published) -> Source:
    trigger = one.made.trigger
    return Source(trigger.topic, trigger.partition, trigger.offset, one.appended_ms)
