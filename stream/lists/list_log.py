"""The use case: of a share of the lists, log what they were ranked by."""

from __future__ import annotations

from collections.abc import Sequence

from stream.core import list_log, ranking
from stream.core.candidates import Candidates
from stream.core.context import Context
from stream.core.events import RecommendationList
from stream.core.list_log import LoggedList
from stream.ports import Publisher

WAITING = 1_000


class ListLog:
    """Remember what lists were ranked by until they are published.

    Args:
        share: of the lists that is logged, 0 to 1.
    """

    def __init__(self, publisher: Publisher, share: float) -> None:
        self._publisher = publisher
        self._share = share
        self._waiting: dict[str, LoggedList] = {}

    def note(self, made: RecommendationList, context: Context, found: Candidates) -> None:
        """Remember a list that was just made from candidates; one that is never published is forgotten."""
        if not len(found) or not list_log.is_sampled(made.recommendation_id, self._share):
            return
        while len(self._waiting) >= WAITING:
            del self._waiting[next(iter(self._waiting))]
        occupants = map(context.items.occupant, found.slots.tolist())
        items = [item.item_id if item else "" for item in occupants]  # removed while the models were asked
        rows = ranking.features(context, found)
        self._waiting[made.recommendation_id] = list_log.logged(
            made, items, found.seen, ranking.FEATURES, rows
        )

    async def publish(self, published: Sequence[RecommendationList]) -> None:
        """Log what was noted of lists. Raises `Unavailable`."""
        noted = [self._waiting.pop(made.recommendation_id, None) for made in published]
        await self._publisher.publish_list_log([one for one in noted if one is not None])
