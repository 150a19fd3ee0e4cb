"""The use case: tell what came of which list. Ports only.

`tell` must have returned before `remember` keeps the batch's lists: a list that is pushed out by a newer
one can then still be found when a crash makes the batch come again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stream.core import attribution
from stream.core.attribution import Told
from stream.core.bots import Sign
from stream.core.events import Attribution, RecommendationList
from stream.core.policy import Policy
from stream.ports import KeptLists, Publisher
from stream.telemetry.metrics import Few, Telemetry

LABELS_KEPT = 20
"""Distinct placements, policies and versions that metrics tell apart; all others count as `other`."""


class Witness(NamedTuple):
    """An event that may tell of a list, and the sign that no person caused it, None for a person."""

    event: Told
    sign: Sign | None


class Attributor:
    """Join events to the lists that caused them."""

    def __init__(self, kept: KeptLists, publisher: Publisher, policy: Policy, telemetry: Telemetry) -> None:
        self._kept = kept
        self._publisher = publisher
        self._policy = policy
        self._telemetry = telemetry
        self._placements, self._policies, self._versions = (Few(LABELS_KEPT) for _ in range(3))

    async def tell(self, witnesses: Sequence[Witness]) -> None:
        """Publish what events tell, then note which items were shown.

        Raises:
            Unavailable: nothing may be acknowledged; give the same events again.
        """
        by_user: dict[str, list[Witness]] = {}
        for witness in witnesses:
            if attribution.outcome_of(witness.event) is not None:
                by_user.setdefault(witness.event.user_id, []).append(witness)
        if not by_user:
            return
        kept = await self._kept.recall(list(by_user))
        told: list[Attribution] = []
        shown = {}
        for user_id, seen in by_user.items():
            lists = kept[user_id]
            records: list[Attribution] = []
            # In order of time, since an item is credited only to a list that showed it before.
            for event, sign in sorted(seen, key=lambda witness: witness.event.at_ms):
                made = attribution.attributions(event, lists, self._policy, sign is not None)
                self._count(event, made)
                if made:
                    records += made
                    shown[user_id] = attribution.marked(lists, made, self._policy)
                    lists = attribution.merged(lists, shown[user_id])
            told += records
        await self._publisher.publish_attributions(told)
        await self._kept.mark({user_id: lists for user_id, lists in shown.items() if lists})

    async def remember(self, lists: Sequence[RecommendationList]) -> None:
        """Keep lists that were published, so that events can be joined to them.

        Raises:
            Unavailable: as `tell`.
        """
        await self._kept.remember([made for made in lists if made.items])

    def _count(self, event: Told, made: Sequence[Attribution]) -> None:
        outcome = attribution.outcome_of(event)
        if not made:
            self._telemetry.unattributed.labels(outcome).inc()
        for record in made:
            if record.automated:
                continue
            self._telemetry.attributed_by_list.labels(
                outcome,
                self._placements.label(record.placement),
                self._policies.label(record.policy),
                self._versions.label(record.model_versions.get("reranker", "")),
            ).inc(len(record.items))
            for item in record.items:
                self._telemetry.attributed.labels(outcome, item.source, _place(item.rank)).inc()


def _place(rank: int) -> str:
    """A position as a label: the first three alone, then in ever wider groups."""
    for last, group in ((3, str(rank)), (5, "4-5"), (10, "6-10"), (20, "11-20")):
        if rank <= last:
            return group
    return "21-"
