"""What came of which list: the lists of a shopper that are kept, and the join of events to them.

A list counts as having shown an item from the moment an event says so: an impression, a click, or a cart
or purchase that names the list. The rules, in this order:

1. An event that names a list (`recommendation_id`) belongs to that list, as far as it holds the items.
2. An impression or a `select_item` that names no list but a placement belongs to the newest list of that
   placement that was made before it and had not expired.
3. Items put in the cart or bought, and not found by 1, belong to the last list that showed them, within
   `policy.attribution_hours`; each item to one list.

Nothing is guessed: what no list showed gives nothing. The join looks only at what happened up to the time
of the event, and a record's id is that of its event and list, so an event that comes again gives the same
records as long as its lists are kept.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from stream.core.events import (
    AttributedItem,
    Attribution,
    ClickEvent,
    ImpressionEvent,
    Line,
    Match,
    Outcome,
    RecommendationList,
)
from stream.core.policy import HOUR_MS, Policy
from stream.errors import StreamrecError

SCHEMA_VERSION = 1
VERSION = 1
MADE_KEPT = 5
"""Newest lists of a shopper that are kept until they expire, whether or not they were shown."""
SHOWN_KEPT = 6
"""Lists of a shopper that are known to have been shown, kept for `policy.attribution_hours`."""

Told = ClickEvent | ImpressionEvent
"""An event that may tell what came of a list."""

_OUTCOMES: dict[str, Outcome] = {
    "select_item": "click",
    "add_to_cart": "cart",
    "purchase": "purchase",
}


class UnreadableList(StreamrecError):
    """Bytes that no version of `encode` wrote, or that were damaged."""


class KeptItem(NamedTuple):
    """One place of a list, and when it was first told to have been shown: epoch ms, 0 for never."""

    item_id: str
    source: str
    propensity: float
    explored: bool
    shown_ms: int


class KeptList(NamedTuple):
    """What must be known of a list to say what came of it; `items` are in the order of their ranks."""

    recommendation_id: str
    placement: str
    generated_ms: int
    expires_ms: int
    policy: str
    model_versions: Mapping[str, str]
    items: tuple[KeptItem, ...]

    @property
    def shown_ms(self) -> int:
        """When the last of its items was first shown, epoch ms; 0 for a list that no event told of."""
        return max((item.shown_ms for item in self.items), default=0)


def outcome_of(event: Told) -> Outcome | None:
    """What an event may tell of a list; None where it cannot tell anything.

    A `view_item` is a visit of a product's page, wherever the shopper came from: a click only where it
    names the list.
    """
    if isinstance(event, ImpressionEvent):
        return "impression"
    if event.event_type == "view_item":
        return "click" if event.recommendation_id else None
    return _OUTCOMES.get(event.event_type)


def kept_of(made: RecommendationList) -> KeptList:
    """What is kept of a list that was just made."""
    return KeptList(
        made.recommendation_id,
        made.placement,
        made.generated_at,
        made.expires_at,
        made.policy,
        made.model_versions,
        tuple(KeptItem(item.item_id, item.source, item.propensity, item.explored, 0) for item in made.items),
    )


def attributions(
    event: Told, kept: Sequence[KeptList], policy: Policy, automated: bool = False
) -> list[Attribution]:
    """Say what an event tells of a shopper's lists: one record for each list it belongs to.

    Args:
        kept: the shopper's lists in any order, each once.
        automated: whether the shopper acts at a rate that no person reaches.

    Returns:
        Records in the order of the event's items; none where no list showed them.
    """
    outcome = outcome_of(event)
    if outcome is None:
        return []
    lines = _lines(event)
    found: dict[str, tuple[KeptList, Match, list[tuple[int, Line]]]] = {}

    def take(one: KeptList, match: Match, taken: Iterable[tuple[int, Line]]) -> None:
        for place in taken:
            found.setdefault(one.recommendation_id, (one, match, []))[2].append(place)

    if event.recommendation_id:
        for one in kept:
            if one.recommendation_id == event.recommendation_id:
                take(one, "recommendation_id", _places(one, lines))
    elif event.placement and outcome in ("impression", "click"):
        newest = _newest_of(event.placement, event.at_ms, kept)
        if newest is not None:
            take(newest, "placement", _places(newest, lines))
    if outcome in ("cart", "purchase"):
        named = {line.item_id for *_, places in found.values() for _, line in places}
        for line in lines:
            if line.item_id in named:
                continue
            last = _last_that_showed(line.item_id, event.at_ms, kept, policy)
            if last is not None:
                take(last, "item", _places(last, [line]))
    return [_record(event, outcome, one, match, places, automated) for one, match, places in found.values()]


def marked(kept: Sequence[KeptList], told: Sequence[Attribution], policy: Policy) -> tuple[KeptList, ...]:
    """The lists known to have been shown, oldest first, after records of the same shopper were made.

    Times are the earliest told, so any order and any repetition of the records gives the same.
    """
    shown: dict[str, dict[str, int]] = {}
    for record in told:
        times_ms = shown.setdefault(record.recommendation_id, {})
        for item in record.items:
            times_ms[item.item_id] = min(times_ms.get(item.item_id, record.event_time), record.event_time)
    lists = []
    for one in kept:
        if times_ms := shown.get(one.recommendation_id, {}):
            one = one._replace(items=tuple(_shown(item, times_ms) for item in one.items))
        if at_ms := one.shown_ms:
            lists.append((at_ms, one.recommendation_id, one))
    lists.sort(key=lambda entry: entry[:2])
    oldest_ms = lists[-1][0] - int(policy.attribution_hours * HOUR_MS) if lists else 0
    return tuple(one for at_ms, _, one in lists if at_ms >= oldest_ms)[-SHOWN_KEPT:]


def _shown(item: KeptItem, times_ms: Mapping[str, int]) -> KeptItem:
    """An item with the earliest time at which it is known to have been shown."""
    at_ms = times_ms.get(item.item_id)
    if at_ms is None or 0 < item.shown_ms <= at_ms:
        return item
    return item._replace(shown_ms=at_ms)


def merged(made: Iterable[KeptList], shown: Iterable[KeptList]) -> tuple[KeptList, ...]:
    """Each list once: as it is known to have been shown where it is."""
    return tuple({one.recommendation_id: one for one in (*made, *shown)}.values())


def encode(kept: KeptList) -> bytes:
    """Write a list: one byte with the version, then a deflated msgpack array of its columns."""
    sources = list(dict.fromkeys(item.source for item in kept.items))
    chance = [
        [place, item.propensity, item.explored]
        for place, item in enumerate(kept.items)
        if item.explored or item.propensity != 1.0
    ]
    body = _encoder.encode(
        [
            kept.recommendation_id,
            kept.placement,
            kept.generated_ms,
            kept.expires_ms - kept.generated_ms,
            kept.policy,
            dict(kept.model_versions),
            [item.item_id for item in kept.items],
            sources,
            [sources.index(item.source) for item in kept.items],
            chance,
            [[n, item.shown_ms - kept.generated_ms] for n, item in enumerate(kept.items) if item.shown_ms],
        ]
    )
    return bytes([VERSION]) + zlib.compress(body, 6, wbits=-15)


def decode(data: bytes) -> KeptList:
    """Read a list.

    Raises:
        UnreadableList: the version is unknown or the bytes are damaged.
    """
    if not data or data[0] != VERSION:
        raise UnreadableList(f"a kept list of version {data[0] if data else 'none'}, known: {VERSION}")
    try:
        row = _decoder.decode(zlib.decompress(data[1:], wbits=-15))
        recommendation_id, placement, generated_ms, valid_ms, policy, versions, ids, names, places = row[:9]
        chance = {place: (propensity, explored) for place, propensity, explored in row[9]}
        shown = {place: generated_ms + after_ms for place, after_ms in row[10]}
        return KeptList(
            recommendation_id,
            placement,
            generated_ms,
            generated_ms + valid_ms,
            policy,
            versions,
            tuple(
                KeptItem(item_id, names[name], *chance.get(place, (1.0, False)), shown.get(place, 0))
                for place, (item_id, name) in enumerate(zip(ids, places, strict=True))
            ),
        )
    except (zlib.error, msgspec.DecodeError, ValueError, IndexError) as error:
        raise UnreadableList(f"a damaged kept list: {error}") from None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(
    tuple[
        str,
        str,
        int,
        int,
        str,
        dict[str, str],
        list[str],
        list[str],
        list[int],
        list[tuple[int, float, bool]],
        list[tuple[int, int]],
    ]
)


def _lines(event: Told) -> Sequence[Line]:
    if isinstance(event, ImpressionEvent):
        return [Line(item_id, 1, None) for item_id in event.item_ids]
    return event.lines


def _places(one: KeptList, lines: Iterable[Line]) -> list[tuple[int, Line]]:
    """The positions in a list, from 0, of those lines whose item it holds."""
    positions = {item.item_id: position for position, item in enumerate(one.items)}
    return [(positions[line.item_id], line) for line in lines if line.item_id in positions]


def _newest_of(placement: str, at_ms: int, kept: Iterable[KeptList]) -> KeptList | None:
    """The newest list of a placement made up to a time and not expired then."""
    live = [one for one in kept if one.placement == placement and one.generated_ms <= at_ms < one.expires_ms]
    return max(live, key=lambda one: (one.generated_ms, one.recommendation_id), default=None)


def _last_that_showed(item_id: str, at_ms: int, kept: Iterable[KeptList], policy: Policy) -> KeptList | None:
    """The list that showed an item last, within the window before a time."""
    since_ms = max(1, at_ms - int(policy.attribution_hours * HOUR_MS))
    shown = [
        (item.shown_ms, one.generated_ms, one.recommendation_id, one)
        for one in kept
        for item in one.items
        if item.item_id == item_id and since_ms <= item.shown_ms <= at_ms
    ]
    return max(shown, key=lambda found: found[:3])[3] if shown else None


def _record(
    event: Told,
    outcome: Outcome,
    one: KeptList,
    match: Match,
    places: Sequence[tuple[int, Line]],
    automated: bool,
) -> Attribution:
    bought = outcome in ("cart", "purchase")
    priced = [line for _, line in places if line.price is not None]
    return Attribution(
        schema_version=SCHEMA_VERSION,
        attribution_id=attribution_id(event.event_id, one.recommendation_id),
        user_id=event.user_id,
        outcome=outcome,
        event_id=event.event_id,
        event_time=event.at_ms,
        recommendation_id=one.recommendation_id,
        placement=one.placement,
        generated_at=one.generated_ms,
        matched=match,
        model_versions=dict(one.model_versions),
        items=[
            AttributedItem(
                item_id=line.item_id,
                rank=position + 1,
                source=one.items[position].source,
                propensity=one.items[position].propensity,
                explored=one.items[position].explored,
                quantity=line.quantity if bought else None,
                price=line.price if bought else None,
            )
            for position, line in sorted(places, key=lambda place: place[0])
        ],
        policy=one.policy,
        automated=automated,
        currency=event.currency if bought and isinstance(event, ClickEvent) else None,
        value=(
            round(sum((line.price or 0.0) * line.quantity for line in priced), 6)
            if outcome == "purchase" and priced
            else None
        ),
    )


def attribution_id(event_id: str, recommendation_id: str) -> str:
    """The id that the record of an event and a list always has."""
    return hashlib.blake2b(f"{event_id}\x00{recommendation_id}".encode(), digest_size=12).hexdigest()
