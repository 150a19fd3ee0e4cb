"""Frozen tuning: what is kept, for how long it counts, and what a list may hold."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class DiversityPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a list avoids likeness among its items, see `stream.core.diversity`."""

    method: Literal["mmr", "dpp"] = "mmr"
    """`mmr` looks at the most alike of the items above, `dpp` at all of them."""
    strength: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """0 leaves the order by score; 0.5 makes a copy of an item above lose 1 of its score; 1 only differs."""


class ExplorationPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which places of a list try out items of which little is known, see `stream.core.exploration`."""

    slots: Annotated[int, Meta(ge=0, le=10)] = 1
    """Places of a list that may be given to an item to be tried out; 0 for none."""
    kinds: Annotated[tuple[Literal["new", "uncertain"], ...], Meta(min_length=1)] = ("new", "uncertain")
    """What is tried in the slots in turn; a slot takes the next kind where it has nothing of its own."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.25
    """Of the lists, in which a slot tries something; in the others it shows the next best item."""
    strength: Annotated[float, Meta(gt=0, le=10)] = 1.0
    """What the uncertainty of an item's rate of clicks counts beside its score."""
    place: Annotated[int, Meta(ge=1)] = 10
    """Place of the first slot, from 1; further ones are spread from there to the end of the list."""
    new_days: Annotated[float, Meta(ge=0)] = 7.0
    """For how long after its first message an item is new."""


class ReleasePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of the shared signals is released with noise for lists to read, see docs/privacy.md."""

    epsilon: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """What a release may tell of a shopper, with `delta`; 0: lists read the signals as they are."""
    delta: Annotated[float, Meta(gt=0, le=1e-3)] = 1e-6
    """How likely a release may tell more than that."""
    period_days: Annotated[int, Meta(ge=1, le=366)] = 7
    """Days that a release counts; `clicks` has to keep messages for so long, and until it is made."""
    items: Annotated[int, Meta(ge=1, le=1000)] = 50
    """A shopper counts for so many items in a period, the first they touch."""
    pairs: Annotated[int, Meta(ge=0, le=10_000)] = 100
    """And for so many pairs of items, the nearest to one another."""
    budget_epsilon: Annotated[float, Meta(gt=0)] = 8.0
    """Releases of periods that begin within `budget_days` may sum to this; a further one is refused."""
    budget_days: Annotated[int, Meta(ge=1, le=366)] = 28
    """Days that the budget is for."""


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Business rules and bounds; the weights of the ranking are trained and live in the model."""

    name: Annotated[str, Meta(max_length=100)] = ""
    """What lists call the policy they were made by, and with them what is told of them."""
    list_length: int = 20
    """Items in a list."""
    list_valid_hours: float = 24.0
    """How long after `generated_at` a list `expires_at`."""
    exclude_bought_days: float = 7.0
    """An item bought within this time before the event is not recommended."""
    max_per_category: int = 8
    """At most this many items of one category in a list, where the catalogue has categories."""
    interactions_kept: int = 150
    """Newest interactions in a user's state."""
    searches_kept: int = 5
    """Newest searches in a user's state."""
    owned_kept: int = 300
    """Last bought items in a user's state."""
    session_gap_minutes: float = 30.0
    """A pause this long begins a new session, unless both events name the same `session_id`."""
    query_minutes: float = 30.0
    """A search shapes the lists that follow it for this long."""
    attribution_hours: Annotated[float, Meta(gt=0, le=720)] = 72.0
    """Items put in the cart or bought are credited to the last list that showed them within this time."""
    bot_burst_events: Annotated[int, Meta(ge=0, le=50)] = 20
    """So many events within `bot_burst_seconds` no person makes; 0 does not look for bursts."""
    bot_burst_seconds: Annotated[float, Meta(gt=0)] = 5.0
    """How long `bot_burst_events` must take at least."""
    bot_regular_events: Annotated[int, Meta(ge=0, le=50)] = 25
    """So many events at equal intervals no person makes; 0 does not look for them."""
    bot_items_an_hour: Annotated[float, Meta(ge=0)] = 1000.0
    """More distinct items an hour no person looks at, over 40 items or more; 0 sets no limit."""
    min_shoppers: Annotated[int, Meta(ge=1, le=12)] = 2
    """What fewer shoppers brought together is no neighbour to lists, see docs/privacy.md; 1 shows all."""
    min_quality: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """An item whose text scores less in `stream.core.quality` is held back from lists; 0 holds none back."""
    min_fit: Annotated[float, Meta(ge=0, le=1)] = 0.17
    """Brand and category that fit the text less, by the cross-encoder, are a misfit; 0: none is read."""
    misfit_weight: Annotated[float, Meta(ge=0, le=1)] = 0.4
    """The share of its quality that a misfit costs an item; above .5 it alone holds the item back."""
    diversity: DiversityPolicy = DiversityPolicy()
    """How much a list avoids likeness among its items."""
    exploration: ExplorationPolicy = ExplorationPolicy()
    """Which places of a list try out items of which little is known."""
    release: ReleasePolicy = ReleasePolicy()
    """Whether lists read only what is released of the shared signals with noise."""


DEFAULT_POLICY = Policy()
