"""What a run came to, as JSON and in words."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from faults.kinds import NOT_BUILT
from faults.recovery import recovery_s
from faults.run import Outcome
from faults.story import tell


def summary(outcome: Outcome, seed: int) -> dict[str, Any]:
    """Everything of a run that can be written as JSON."""
    evidence, verdict = outcome.evidence, outcome.verdict
    happened = Counter(incident.kind for incident in evidence.incidents)
    recovered = recovery_s(evidence)
    return {
        "seed": seed,
        "took_s": round(outcome.took_s, 1),
        "faults": len(evidence.incidents),
        "faults_left_over": outcome.left_over,
        "differences": len(verdict.differences),
        "differences_by_kind": dict(Counter(one.what for one in verdict.differences)),
        "counted": dict(verdict.counted),
        "events": len(evidence.events),
        "acknowledged": len(evidence.acknowledged),
        "lists": len(evidence.lists),
        "lists_without": dict(Counter(part for one in evidence.lists for part in one.made.degraded)),
        "dead_letters": len(evidence.letters),
        "increments": len(evidence.increments),
        "commits_seen": len(evidence.commits),
        "by_fault": {
            kind: {
                "faults": happened[kind],
                "alone": len(recovered.get(kind, [])),
                "recovery_median_s": round(median(times), 2) if (times := recovered.get(kind)) else None,
                "recovery_worst_s": round(max(times), 2) if times else None,
            }
            for kind in sorted(happened)
        },
        "first_differences": [
            {"what": one.what, "user_id": one.user_id, "said": one.said} for one in verdict.differences[:20]
        ],
        "story": tell(verdict, evidence),
        "not_built": list(NOT_BUILT),
    }


def in_words(summed: dict[str, Any]) -> list[str]:
    """The lines for a terminal."""
    lines = [
        f"seed {summed['seed']}: {summed['faults']} faults, {summed['events']} events, "
        f"{summed['lists']} lists, {summed['dead_letters']} dead letters, "
        f"{summed['increments']} increments in {summed['took_s']} s",
        f"{'fault':24s} {'times':>5s} {'alone':>5s}  recovery: median, worst (s)",
    ]
    for kind, one in summed["by_fault"].items():
        times = f"{one['recovery_median_s']}, {one['recovery_worst_s']}" if one["alone"] else "-"
        lines.append(f"{kind:24s} {one['faults']:5d} {one['alone']:5d}  {times}")
    lines += [f"{count} lists without {part}" for part, count in sorted(summed["lists_without"].items())]
    if summed["faults_left_over"]:
        lines.append(f"{summed['faults_left_over']} planned faults were not reached in time")
    lines += [f"{count} times: {what}" for what, count in sorted(summed["counted"].items())]
    lines.append(f"{summed['differences']} differences {summed['differences_by_kind'] or ''}".rstrip())
    return [*lines, *summed["story"]]
