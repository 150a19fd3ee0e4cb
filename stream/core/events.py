"""The messages of the public contract, and `decode_*`: bytes from a topic to a checked event.

Field names follow GA4 and Google Retail. Unknown fields are ignored, so producers may send more. Times
are RFC 3339 strings with an offset, or integer epoch milliseconds.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from stream.errors import InvalidMessage

MAX_MESSAGE_BYTES = 1_000_000
MAX_ID_CHARS = 256
MAX_QUERY_CHARS = 1_000
MAX_ITEMS_PER_EVENT = 500
MAX_RESULTS = 1_000
EARLIEST_MS = 100_000_000_000  # 1973-03-03; smaller numbers are epoch seconds sent by mistake
LATEST_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARS)]
Time = Annotated[int | str, Meta(description="RFC 3339 with an offset, or integer epoch milliseconds")]
Price = Annotated[float, Meta(ge=0)]
Quantity = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class ErrorCode(enum.StrEnum):
    """Why a message went to the dead letters."""

    NULL_VALUE = "null_value"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    TOO_DEEP = "too_deep"
    INVALID_FIELD = "invalid_field"
    UNKNOWN_EVENT_TYPE = "unknown_event_type"
    INVALID_TIME = "invalid_time"
    KEY_MISMATCH = "key_mismatch"
    INVALID_INCREMENT = "invalid_increment"
    INTERNAL = "internal"


EventType = Literal["view_item", "select_item", "add_to_cart", "remove_from_cart", "purchase"]
EVENT_TYPES: tuple[EventType, ...] = (
    "view_item",
    "select_item",
    "add_to_cart",
    "remove_from_cart",
    "purchase",
)
"""What a shopper does to an item, in the order in which states number it."""

MessageType = Literal[EventType, "view_item_list"]
Outcome = Literal["impression", "click", "cart", "purchase"]
OUTCOMES: tuple[Outcome, ...] = ("impression", "click", "cart", "purchase")
Match = Literal["recommendation_id", "placement", "item"]


class EventItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an event with several items."""

    item_id: Id
    """The product."""
    quantity: Quantity | None = None
    """How many; 1 where it is missing."""
    price: Price | None = None
    """Price of one, in `currency`."""


class ClickMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of the topic `clicks`: what a shopper did to one item, or to several at once.

    `view_item_list` is an impression: the items came into view, in a list. It is no sign of interest, so
    no list answers it.
    """

    event_id: Id
    """Names the event; sent again with the same id it counts once."""
    event_type: MessageType
    """What the shopper did, or with `view_item_list` what was shown."""
    event_time: Time
    """When it happened; a time after the broker's append time is taken as that."""
    user_id: Id
    """The shopper; must be the message's key too."""
    item_id: Id | None = None
    """The product, where it is one. Either this or `items` is required."""
    items: Annotated[list[EventItem], Meta(min_length=1, max_length=MAX_ITEMS_PER_EVENT)] | None = None
    """The products, where there are several."""
    session_id: Id | None = None
    """The visit it belongs to; without one, a pause of half an hour begins a new visit."""
    price: Price | None = None
    """Price of one of `item_id`, in `currency`."""
    quantity: Quantity | None = None
    """How many of `item_id`; 1 where it is missing."""
    currency: Annotated[str, Meta(max_length=16)] | None = None
    """ISO 4217 code of the prices."""
    recommendation_id: Annotated[str, Meta(max_length=MAX_ID_CHARS)] | None = None
    """The list that was shown or followed, where it was one."""
    placement: Annotated[str, Meta(max_length=MAX_ID_CHARS)] | None = None
    """Where on the site it happened."""
    context: dict[str, Any] | None = None
    """Anything else; kept out of the way, but for the text `segment`, which rules for lists may ask for."""


class SearchMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of the topic `searches`: what a shopper searched for."""

    event_id: Id
    """Names the event; sent again with the same id it counts once."""
    event_time: Time
    """When it happened; a time after the broker's append time is taken as that."""
    user_id: Id
    """The shopper; must be the message's key too."""
    search_query: Annotated[str, Meta(min_length=1, max_length=MAX_QUERY_CHARS)]
    """What was typed."""
    session_id: Id | None = None
    """The visit it belongs to."""
    result_item_ids: Annotated[list[Id], Meta(max_length=MAX_RESULTS)] | None = None
    """The shop's own results, best first: they are answered with a list of exactly these, in a new order."""
    placement: Annotated[str, Meta(max_length=MAX_ID_CHARS)] | None = None
    """Where on the site it happened; with `result_item_ids` what the list is for, `search` by default."""
    context: dict[str, Any] | None = None
    """Anything else; kept out of the way, but for the text `segment`, which rules for lists may ask for."""


class ItemMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of the compacted topic `items`: one product as the shop knows it; null removes it."""

    item_id: Id
    """The product; must be the message's key too."""
    title: Annotated[str, Meta(min_length=1, max_length=2_000)]
    """Its name, as shoppers see it."""
    description: Annotated[str, Meta(max_length=200_000)] = ""
    """More about it; title and description are what is encoded and searched."""
    category: Annotated[list[Annotated[str, Meta(max_length=500)]], Meta(max_length=32)] = []
    """The path of its category, widest first."""
    brand: Annotated[str, Meta(max_length=500)] | None = None
    """Who makes it."""
    price: Price | None = None
    """Price of one, in `currency`."""
    currency: Annotated[str, Meta(max_length=16)] | None = None
    """ISO 4217 code of the price."""
    available: bool = True
    """Whether it may be in lists."""
    attributes: dict[str, Any] | None = None
    """Anything else; kept out of the way."""
    image_url: str | None = None
    """Where its picture is."""
    updated_at: Time | None = None
    """When the shop changed it; the broker's append time where it is missing."""


class Trigger(msgspec.Struct, frozen=True):
    """The event that a list answers."""

    event_id: str
    """Its id."""
    topic: str
    """The topic it lay in."""
    partition: int
    """The partition it lay in."""
    offset: int
    """Its offset there."""
    event_time: int
    """When it happened, epoch milliseconds."""


class RecommendedItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place of a list: which item, why, and how sure (`score` orders within one list only)."""

    item_id: str
    """The product."""
    rank: int
    """Its place, from 1."""
    score: float
    """Compares within one list only; `rank` is the order, which diversity, trials and rules may change."""
    source: str
    """Which way of finding candidates brought it."""
    reason: str
    """Why it is there, as a shopper could read it."""
    propensity: float = 1.0
    """How likely it was to be shown at this place; below 1 where chance had a say."""
    explored: bool = False
    """Whether it is there to be tried out."""


class RecommendationList(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of the topic `recommendations`: one shopper's whole list. Times: epoch milliseconds."""

    schema_version: int
    """1; grows when a reader of the former version would go wrong."""
    recommendation_id: str
    """Names the list; send it back in the clicks that follow it."""
    user_id: str
    """The shopper; the message's key too, but for `reordered` lists."""
    placement: str
    """The place on the site it is for."""
    sequence: int
    """Grows with each list of a shopper: drop one whose number is below that of one with the same key."""
    generated_at: int
    """When it was made, epoch milliseconds."""
    expires_at: int
    """Until when it may be shown, epoch milliseconds."""
    trigger: Trigger
    """The newest event it takes into account."""
    model_versions: dict[str, str]
    """Version by name of the models that took part."""
    degraded: list[str]
    """What had to be left out: `encoder`, `cross_encoder`, `reranker`; `empty` for a list of nothing."""
    items: list[RecommendedItem]
    """Best first; empty where nothing can be recommended."""
    policy: str = ""
    """Name of the policy it was made by."""
    segment: str = ""
    """The shopper's segment, as the trigger named it."""
    warnings: list[str] = []
    """What rules demanded and could not be kept, as sentences that begin with the rule's id."""
    reordered: bool = False
    """Whether these are the results that the shop sent with a search, in a new order. Such a list has the key
    `user_id`, NUL, `placement`, so that it never takes the place of the shopper's recommendations."""


def list_key(made: RecommendationList) -> bytes:
    """The key of a list's message: what a newer list with the same key takes the place of."""
    return results_key(made.user_id, made.placement) if made.reordered else made.user_id.encode()


def results_key(user_id: str, placement: str) -> bytes:
    """The key of reordered results; "" as the placement gives what all of a shopper's begin with.

    No user id holds a NUL, so no key is that of another shopper.
    """
    return f"{user_id}\x00{placement}".encode()


class AttributedItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place of a list that something came of; source, propensity and explored are the list's."""

    item_id: str
    """The product."""
    rank: int
    """Its place in the list, from 1."""
    source: str
    """Which way of finding candidates brought it."""
    propensity: float = 1.0
    """How likely it was to be shown at this place."""
    explored: bool = False
    """Whether it was there to be tried out."""
    quantity: int | None = None
    """How many were put in the cart or bought."""
    price: float | None = None
    """Price of one, where the event names it."""


class Attribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of the topic `attributions`: what came of one list by one event.

    There is one for each event and list; after a crash the same may come again, with the same
    `attribution_id`. Times: epoch milliseconds.
    """

    schema_version: int
    """1; grows when a reader of the former version would go wrong."""
    attribution_id: str
    """Names the event and the list; count a repeated one once."""
    user_id: str
    """The shopper; the message's key too."""
    outcome: Outcome
    """What came of the list: its items came into view, were clicked, put in the cart, or bought."""
    event_id: str
    """The event that tells so."""
    event_time: int
    """When it happened, epoch milliseconds."""
    recommendation_id: str
    """The list."""
    placement: str
    """The place on the site that the list was for."""
    generated_at: int
    """When the list was made, epoch milliseconds."""
    matched: Match
    """How the list was found: named by the event, newest of its placement, or last to show the item."""
    model_versions: dict[str, str]
    """Version by name of the models that took part in the list."""
    items: list[AttributedItem]
    """The places of the list that the event is about, best first."""
    policy: str = ""
    """Name of the policy that the list was made by."""
    automated: bool = False
    """Whether the shopper acted at a rate that no person reaches; not to be counted in rates."""
    currency: str | None = None
    """ISO 4217 code of the prices."""
    value: float | None = None
    """Of a purchase: the sum of price times quantity of the items with a price."""


class Source(NamedTuple):
    """Where a message lay: topic, partition, offset, and the broker's append time in epoch ms."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Line(NamedTuple):
    """One item of a click event."""

    item_id: str
    quantity: int
    price: float | None


class ClickEvent(NamedTuple):
    """A checked click: `at_ms` is the event time, never later than the broker's append time."""

    event_id: str
    user_id: str
    at_ms: int
    source: Source
    event_type: EventType
    lines: tuple[Line, ...]
    session_id: str | None
    placement: str | None
    recommendation_id: str | None = None
    currency: str | None = None
    segment: str = ""


class ImpressionEvent(NamedTuple):
    """A checked impression: these items came into view. It is no interest, so it never enters a state."""

    event_id: str
    user_id: str
    at_ms: int
    source: Source
    item_ids: tuple[str, ...]
    placement: str | None
    recommendation_id: str | None


class SearchEvent(NamedTuple):
    """A checked search: `at_ms` as in `ClickEvent`; `query` has its outer white space removed.

    `results` are the shop's own, none twice; none where the engine is to find some itself.
    """

    event_id: str
    user_id: str
    at_ms: int
    source: Source
    query: str
    session_id: str | None
    placement: str | None
    results: tuple[str, ...] = ()
    segment: str = ""


Event = ClickEvent | SearchEvent

_click_decoder = msgspec.json.Decoder(ClickMessage)
_search_decoder = msgspec.json.Decoder(SearchMessage)
_item_decoder = msgspec.json.Decoder(ItemMessage)
_time_decoder = Annotated[datetime, Meta(tz=True)]


def decode_click(source: Source, key: bytes | None, value: bytes | None) -> ClickEvent | ImpressionEvent:
    """Check one message of `clicks`.

    Raises:
        InvalidMessage: with a code of `ErrorCode` and a message that names field and reason.
    """
    message = _decode(_click_decoder, value)
    _check_ids(event_id=message.event_id, user_id=message.user_id)
    _check_key(key, "user_id", message.user_id)
    lines: dict[str, Line] = {}
    if message.item_id is not None:
        _check_ids(item_id=message.item_id)
        _check_finite("price", message.price)
        lines[message.item_id] = Line(message.item_id, message.quantity or 1, message.price)
    for position, item in enumerate(message.items or ()):
        _check_ids(**{f"items[{position}].item_id": item.item_id})
        _check_finite(f"items[{position}].price", item.price)
        lines.setdefault(item.item_id, Line(item.item_id, item.quantity or 1, item.price))
    if not lines:
        raise InvalidMessage(
            ErrorCode.INVALID_FIELD, "item_id: missing (either item_id or items is required)"
        )
    at_ms = min(_time_ms("event_time", message.event_time), source.timestamp_ms)
    if message.event_type == "view_item_list":
        return ImpressionEvent(
            event_id=message.event_id,
            user_id=message.user_id,
            at_ms=at_ms,
            source=source,
            item_ids=tuple(lines),
            placement=message.placement,
            recommendation_id=message.recommendation_id,
        )
    return ClickEvent(
        event_id=message.event_id,
        user_id=message.user_id,
        at_ms=at_ms,
        source=source,
        event_type=message.event_type,
        lines=tuple(lines.values()),
        session_id=message.session_id,
        placement=message.placement,
        recommendation_id=message.recommendation_id,
        currency=message.currency,
        segment=_segment(message.context),
    )


def decode_search(source: Source, key: bytes | None, value: bytes | None) -> SearchEvent:
    """Check one message of `searches`. Raises as `decode_click`."""
    message = _decode(_search_decoder, value)
    _check_ids(event_id=message.event_id, user_id=message.user_id)
    _check_key(key, "user_id", message.user_id)
    query = " ".join(message.search_query.split())
    if not query:
        raise InvalidMessage(ErrorCode.INVALID_FIELD, "search_query: only white space")
    results = message.result_item_ids or ()
    for position, item_id in enumerate(results):
        _check_ids(**{f"result_item_ids[{position}]": item_id})
    return SearchEvent(
        event_id=message.event_id,
        user_id=message.user_id,
        at_ms=min(_time_ms("event_time", message.event_time), source.timestamp_ms),
        source=source,
        query=query,
        session_id=message.session_id,
        placement=message.placement,
        results=tuple(dict.fromkeys(results)),
        segment=_segment(message.context),
    )


def decode_item(key: bytes | None, value: bytes | None) -> tuple[str, ItemMessage | None]:
    """Check one message of `items`.

    Returns:
        The item's id and its message, or None in place of the message where the item is removed.

    Raises:
        InvalidMessage: as `decode_click`; a removal must carry its item id as the key.
    """
    if value is None:
        if not key:
            raise InvalidMessage(
                ErrorCode.KEY_MISMATCH,
                "key: missing (a null value removes the item named by the key)",
            )
        item_id = _text_key(key)
        if len(item_id) > MAX_ID_CHARS:
            raise InvalidMessage(ErrorCode.INVALID_FIELD, f"key: longer than {MAX_ID_CHARS} characters")
        return item_id, None
    message = _decode(_item_decoder, value)
    _check_ids(item_id=message.item_id, title=message.title)
    _check_key(key, "item_id", message.item_id)
    _check_finite("price", message.price)
    if message.updated_at is not None:
        _time_ms("updated_at", message.updated_at)
    return message.item_id, message


def item_updated_ms(message: ItemMessage, source: Source) -> int:
    """The item's own time of update in epoch ms, or the broker's append time where it names none."""
    if message.updated_at is None:
        return source.timestamp_ms
    return min(_time_ms("updated_at", message.updated_at), source.timestamp_ms)


def _decode(decoder: msgspec.json.Decoder[Any], value: bytes | None) -> Any:
    if value is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "value: null (a tombstone has no meaning here)")
    if len(value) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(
            ErrorCode.TOO_LARGE, f"value: {len(value)} bytes, at most {MAX_MESSAGE_BYTES} are taken"
        )
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        raise _invalid_field(str(error)) from None
    except RecursionError:
        raise InvalidMessage(ErrorCode.TOO_DEEP, "value: nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(value, error) from None


def _invalid_field(text: str) -> InvalidMessage:
    """Turn msgspec's sentence ("Expected `str`, got `int` - at `$.user_id`") into field: reason."""
    reason, _, path = text.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    if reason.startswith("Object missing required field"):
        missing = reason.split("`")[1]
        field = f"{field}.{missing}" if field else missing
        reason = "missing"
    if not field:
        return InvalidMessage(ErrorCode.NOT_AN_OBJECT, f"value: {reason}")
    if field == "event_type" and reason.startswith("Invalid enum value"):
        return InvalidMessage(
            ErrorCode.UNKNOWN_EVENT_TYPE,
            f"event_type: {reason.removeprefix('Invalid enum value')[:80].strip()} is none of "
            + ", ".join((*EVENT_TYPES, "view_item_list")),
        )
    return InvalidMessage(ErrorCode.INVALID_FIELD, f"{field}: {reason}")


def _not_json(value: bytes, error: Exception) -> InvalidMessage:
    """Name the field where the only fault is NaN or Infinity, which some producers write as JSON."""
    try:
        field, content = next(_not_finite(json.loads(value)), ("", 0.0))
    except (ValueError, RecursionError):
        field = ""
    if field:
        return InvalidMessage(ErrorCode.INVALID_FIELD, f"{field[:80]}: {content} is no JSON number")
    return InvalidMessage(ErrorCode.NOT_JSON, f"value: not JSON in UTF-8 ({error})")


def _not_finite(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in parsed JSON that are not finite, each with its path."""
    if isinstance(content, float) and not math.isfinite(content):
        yield path, content
    elif isinstance(content, dict):
        for name, inner in content.items():
            yield from _not_finite(inner, f"{path}.{name}" if path else name)
    elif isinstance(content, list):
        for position, inner in enumerate(content):
            yield from _not_finite(inner, f"{path}[{position}]")


def _segment(context: dict[str, Any] | None) -> str:
    """The segment that an event names; one that is no text, or too long, counts as none."""
    segment = (context or {}).get("segment")
    return segment if isinstance(segment, str) and len(segment) <= MAX_ID_CHARS else ""


def _check_ids(**fields: str) -> None:
    for name, value in fields.items():
        if not value.strip():
            raise InvalidMessage(ErrorCode.INVALID_FIELD, f"{name}: only white space")
        if "\x00" in value:
            raise InvalidMessage(ErrorCode.INVALID_FIELD, f"{name}: holds a NUL character")


def _check_finite(name: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise InvalidMessage(ErrorCode.INVALID_FIELD, f"{name}: not a finite number")


def _check_key(key: bytes | None, name: str, expected: str) -> None:
    if key is None:
        raise InvalidMessage(ErrorCode.KEY_MISMATCH, f"key: null, expected the {name}")
    if _text_key(key) != expected:
        raise InvalidMessage(ErrorCode.KEY_MISMATCH, f"key: differs from {name}")


def _text_key(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise InvalidMessage(ErrorCode.KEY_MISMATCH, "key: not UTF-8") from None


def _time_ms(name: str, value: int | str) -> int:
    """Epoch milliseconds of an RFC 3339 string or of a number that already is that."""
    if isinstance(value, str):
        try:
            at = msgspec.convert(value, _time_decoder)
            at_ms = int(at.astimezone(UTC).timestamp() * 1000)
        except (msgspec.ValidationError, OverflowError, ValueError):
            raise InvalidMessage(
                ErrorCode.INVALID_TIME,
                f"{name}: not RFC 3339 with an offset, such as 2026-01-31T12:00:00Z",
            ) from None
    else:
        at_ms = value
    if not EARLIEST_MS <= at_ms <= LATEST_MS:
        hint = ", is it in seconds?" if 0 < at_ms < EARLIEST_MS else ""
        raise InvalidMessage(
            ErrorCode.INVALID_TIME, f"{name}: {str(at_ms)[:20]} is no plausible epoch millisecond{hint}"
        )
    return at_ms
