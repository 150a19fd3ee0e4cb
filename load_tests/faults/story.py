"""The smallest story of one difference: the events, lists, commits and faults that belong to it, in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from faults.evidence import Evidence
from faults.referee import Difference, Verdict
from stream.ports import RawMessage

BEFORE_MS, AFTER_MS = 3_000, 20_000
"""How long before and after the event that something else belongs to the story."""
LINES = 40


def tell(verdict: Verdict, evidence: Evidence) -> list[str]:
    """Tell of the first shopper that differs, or of the first difference where it is about none."""
    if not verdict.differences:
        return []
    first = next((one for one in verdict.differences if one.user_id), verdict.differences[0])
    lines = [f"{first.what}: {first.user_id or 'no shopper'}: {first.said}"]
    moments = sorted(_moments(first, evidence))
    return lines + [f"  {_clock(at_ms)}  {said}" for at_ms, said in moments[:LINES]]


def _moments(first: Difference, evidence: Evidence) -> Iterator[tuple[int, str]]:
    own = [one for one in evidence.events if first.user_id and one.key == first.user_id.encode()]
    if first.source is None and not own:
        for incident in evidence.incidents:
            yield from _of_fault(*incident)
        return
    middle_ms = first.source.timestamp_ms if first.source else own[-1].source.timestamp_ms
    begin_ms, end_ms = middle_ms - BEFORE_MS, middle_ms + AFTER_MS
    for one in own:
        if begin_ms <= one.source.timestamp_ms <= end_ms:
            yield one.source.timestamp_ms, _of_event(one)
    for published in evidence.lists:
        made = published.made
        if made.user_id == first.user_id and begin_ms <= published.appended_ms <= end_ms:
            trigger = made.trigger
            place = f"{trigger.topic}/{trigger.partition}/{trigger.offset}"
            yield published.appended_ms, f"list {made.sequence} for {trigger.event_id} at {place}"
    for incident in evidence.incidents:
        if incident.begun_ms <= end_ms and incident.ended_ms >= begin_ms:
            yield from _of_fault(*incident)
    if first.source is not None:
        for at_ms, offsets in evidence.commits:
            if offsets.get(first.source[:2], 0) > first.source.offset:
                topic, partition, offset, _ = first.source
                yield at_ms, f"by now {topic}/{partition}/{offset} is committed"
                break


def _of_event(one: RawMessage) -> str:
    topic, partition, offset, _ = one.source
    return f"event at {topic}/{partition}/{offset}: {(one.value or b'null').decode(errors='replace')}"


def _of_fault(kind: str, victim: str, begun_ms: int, ended_ms: int) -> Iterator[tuple[int, str]]:
    yield begun_ms, f"{kind} ({victim}) begins"
    yield ended_ms, f"{kind} ({victim}) is put right"


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%H:%M:%S.%f")[:-3]
