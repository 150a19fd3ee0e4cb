"""How long after a fault was put right everything that had come by then was answered."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping

from faults.evidence import Evidence, Incident, Published
from faults.referee import append_times, covers, read_events


def recovery_s(evidence: Evidence) -> Mapping[str, list[float]]:
    """Seconds by kind of fault, of those that no other fault overlapped until they were recovered from.

    0 where nothing was waiting any more when the fault was put right.
    """
    lists: dict[str, list[Published]] = defaultdict(list)
    for one in evidence.lists:
        lists[one.made.user_id].append(one)
    appended_ms = append_times(evidence)
    answered: list[tuple[int, int]] = []
    for user_id, events in read_events(evidence).events.items():
        for event in events:
            times = [one.appended_ms for one in lists[user_id] if covers(one, event, appended_ms)]
            if times:
                answered.append((event.source.timestamp_ms, min(times)))
    answered.sort()
    arrivals = [arrived for arrived, _ in answered]
    found: dict[str, list[float]] = defaultdict(list)
    for incident in evidence.incidents:
        until = bisect_left(arrivals, incident.ended_ms)
        recovered_ms = max([incident.ended_ms, *(at_ms for _, at_ms in answered[:until])])
        if not any(
            other is not incident and _overlap(other, incident.begun_ms, recovered_ms)
            for other in evidence.incidents
        ):
            found[incident.kind].append((recovered_ms - incident.ended_ms) / 1_000)
    return found


def _overlap(other: Incident, begin_ms: int, end_ms: int) -> bool:
    return other.begun_ms <= end_ms and other.ended_ms >= begin_ms
