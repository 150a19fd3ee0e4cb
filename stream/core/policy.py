"""Frozen tuning: what is kept, for how long it counts, and what a list may hold."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Business rules and bounds; the weights of the ranking are trained and live in the model."""

    list_length: int = 20
    """Items in a list."""
    list_valid_hours: float = 24.0
    """How long after `generated_at` a list `expires_at`."""
    exclude_bought_days: float = 7.0
    """An item bought within this time before the event is not recommended."""
    max_per_category: int = 8
    """At most this many items of one category in a list, where the catalogue has categories."""
    interactions_kept: int = 50
    """Newest interactions in a user's state."""
    searches_kept: int = 5
    """Newest searches in a user's state."""
    owned_kept: int = 100
    """Last bought items in a user's state."""
    session_gap_minutes: float = 30.0
    """A pause this long begins a new session, unless both events name the same `session_id`."""
    query_minutes: float = 30.0
    """A search shapes the lists that follow it for this long."""
    min_quality: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.5
    """An item whose text scores less in `stream.core.quality` is held back from lists; 0 holds none back."""


DEFAULT_POLICY = Policy()
