"""What trends in the category of the session's newest item that has one."""

from __future__ import annotations

from stream.core.context import NO_HITS
from stream.core.evidence import Evidence
from stream.core.items import IntArray
from stream.core.sources.source import Source

LIMIT = 15


def _find(evidence: Evidence) -> IntArray:
    context = evidence.context
    for item_id in evidence.session:
        slot = context.items.slot(item_id)
        if slot is not None and context.items.category[slot]:
            hits = context.trending_by_category.get(int(context.items.category[slot]), NO_HITS)
            return hits.slots[:LIMIT]
    return NO_HITS.slots


TRENDING_IN_CATEGORY = Source(
    "trending_in_category", ("popularity", "catalogue"), LIMIT, _find, cause="trending"
)
