"""How long after a fault was put right everything that had come by then was answered."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping

from faults.evidence import Evidence, Incident, Published
from faults.referee import LOSSES, append_times, covers, read_events


def recovery_s(evidence: Evidence) -> Mapping[str, list[float]]:
    """Seconds by kind of fault, of those that no other fault overlapped until they were recovered from.

    0 where nothing was waiting any more when the fault was put right. Where Redis forgot, all that was folded
    again is waited for too.
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
        recovered_ms = max([_whole_again_ms(evidence, incident), *(at_ms for _, at_ms in answered[:until])])
        if recovered_ms < math.inf and not any(
            other is not incident and _overlap(other, incident.begun_ms, recovered_ms)
            for other in evidence.incidents
        ):
            found[incident.kind].append((recovered_ms - incident.ended_ms) / 1_000)
    return found


def _whole_again_ms(evidence: Evidence, incident: Incident) -> float:
    """When commits that had gone back were where they had been; infinite where they never were.

    The fault's end where none went back.
    """
    known = [one for one in evidence.commits if one.at_ms <= incident.ended_ms]
    if incident.kind not in LOSSES or not known:
        return incident.ended_ms
    until_ms = min(
        (one.begun_ms for one in evidence.incidents if one.begun_ms > incident.ended_ms), default=math.inf
    )
    whole_ms: float = incident.ended_ms
    for one in evidence.commits:
        if not incident.ended_ms < one.at_ms < until_ms:
            continue
        if any(one.offsets.get(at, 0) < offset for at, offset in known[-1].offsets.items()):
            whole_ms = math.inf
        elif whole_ms == math.inf:
            whole_ms = one.at_ms
    return whole_ms


def _overlap(other: Incident, begin_ms: int, end_ms: float) -> bool:
    return other.begun_ms <= end_ms and other.ended_ms >= begin_ms
