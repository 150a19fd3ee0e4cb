"""What the reranker sees of a candidate. One file a group of features, one line here."""

from __future__ import annotations

import numpy as np

from stream.core.candidates import Candidates
from stream.core.context import Context
from stream.core.features.age import AGE
from stream.core.features.columns import Columns, Group
from stream.core.features.covisitation import COVISITATION
from stream.core.features.extent import EXTENT
from stream.core.features.following import FOLLOWING
from stream.core.features.history import HISTORY
from stream.core.features.like_sessions import LIKE_SESSIONS
from stream.core.features.likeness import LIKENESS
from stream.core.features.popularity import POPULARITY
from stream.core.features.taste import TASTE
from stream.core.items import FloatArray

GROUPS: tuple[Group, ...] = (
    COVISITATION,
    FOLLOWING,
    LIKE_SESSIONS,
    HISTORY,
    POPULARITY,
    AGE,
    LIKENESS,
    TASTE,
    EXTENT,
)
"""In the order of their columns."""

FEATURES = tuple(name for group in GROUPS for name in group.names)
"""Names of the columns, in order."""


def compute(context: Context, candidates: Candidates) -> FloatArray:
    """Compute the feature rows [N, len(FEATURES)] of the candidates; always finite."""
    columns = Columns.of(context, candidates)
    table = np.zeros((len(FEATURES), len(candidates)), np.float32)
    start = 0
    for group in GROUPS:
        group.compute(columns, table[start : start + len(group.names)])
        start += len(group.names)
    return np.ascontiguousarray(table.T)
