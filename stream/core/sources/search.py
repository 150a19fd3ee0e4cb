"""What a search found, by words and by vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stream.core.context import Context
from stream.core.evidence import Evidence
from stream.core.items import BoolArray, IntArray
from stream.core.sources.source import Grounds, Say, Source
from stream.core.wording import short

if TYPE_CHECKING:
    from stream.core.candidates import Candidates

EACH_WAY = 100

CLOSE_TO_QUERY = 0.3
"""The cosine from which an item without a word of the query is called close to it.

Of random products of the Icecat catalogue 95 % lie below .25 to a query; of the ones judged most relevant
95 % lie above .34 (version 2 of the encoder, 92 queries).
"""


def _find(evidence: Evidence) -> IntArray:
    context = evidence.context
    found = context.near_query.nearest(EACH_WAY)
    return np.concatenate([context.lexical.slots[:EACH_WAY], found])


def _shown(grounds: Grounds) -> BoolArray:
    found = grounds.candidates
    near: BoolArray = (found.bm25 > 0) | (found.cosine_query >= CLOSE_TO_QUERY)
    return found.by("search") & (grounds.context.query is not None) & near


def _reason(context: Context, candidates: Candidates, position: int, item_id: str) -> str:
    assert context.query is not None
    verb = "matches" if candidates.bm25[position] > 0 else "close to"
    return f"{verb} your search for {short(context.query.query)}"


SEARCH = Source("search", ("words", "vectors"), 2 * EACH_WAY, _find, Say(_shown, _reason, search=True))
