"""What a search found, by words and by vectors."""

from __future__ import annotations

import numpy as np

from stream.core.evidence import Evidence
from stream.core.items import IntArray
from stream.core.sources.source import Source

EACH_WAY = 100


def _find(evidence: Evidence) -> IntArray:
    context = evidence.context
    found = context.near_query.nearest(EACH_WAY)
    return np.concatenate([context.lexical.slots[:EACH_WAY], found])


SEARCH = Source("search", ("words", "vectors"), 2 * EACH_WAY, _find)
