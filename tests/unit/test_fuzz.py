"""Whatever bytes come in, a decoder gives what it says or the one error it says, and the core never crashes.

The suite runs a few thousand inputs a decoder, the same each time. `STREAMREC_FUZZ_INPUTS=1000000
STREAMREC_FUZZ_SEED=7 pytest tests/unit/test_fuzz.py -k decoder` runs so many of each, of another seed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, click, item_vector, raw_click, raw_item, raw_removal, raw_search, search, source
from fuzzing import KEYS, damaged, hostile
from shops import Shop

from stream.adapters import letter_record, vector_record
from stream.adapters.lexical_index import LexicalIndex
from stream.adapters.usearch_index import UsearchIndex
from stream.catalog.view import CatalogView
from stream.catalog.writer import CatalogWriter
from stream.core import attribution, codec, list_log, signals, versions
from stream.core.events import (
    ClickEvent,
    ImpressionEvent,
    ItemMessage,
    SearchEvent,
    decode_click,
    decode_item,
    decode_search,
    item_updated_ms,
)
from stream.core.policy import DEFAULT_POLICY
from stream.core.rules.reading import read_message, read_toml
from stream.core.state import apply, empty
from stream.errors import InvalidMessage, InvalidRule, StreamrecError, place_of
from stream.fakes import MemoryPublisher
from stream.models.version_control import read_vectors
from stream.ports import RawMessage

INPUTS = int(os.environ.get("STREAMREC_FUZZ_INPUTS", "2000"))
SEED = int(os.environ.get("STREAMREC_FUZZ_SEED", "0"))

CLICK: dict[str, Any] = {
    "event_id": "e1",
    "event_type": "purchase",
    "event_time": NOW_MS,
    "user_id": "ann",
    "item_id": "mug",
    "items": [{"item_id": "cup", "quantity": 2, "price": 2.5}],
    "session_id": "s1",
    "price": 1.5,
    "quantity": 1,
    "currency": "EUR",
    "recommendation_id": "r1",
    "placement": "home",
    "context": {"segment": "gold"},
}
IMPRESSION = CLICK | {"event_type": "view_item_list", "event_time": "2026-01-31T12:00:00+01:00"}
SEARCH: dict[str, Any] = {
    "event_id": "e2",
    "event_time": "2026-01-31T12:00:00Z",
    "user_id": "ann",
    "search_query": "red mug",
    "session_id": "s1",
    "result_item_ids": ["mug", "cup"],
    "placement": "search",
    "context": {},
}
ITEM: dict[str, Any] = {
    "item_id": "mug",
    "title": "Red mug",
    "description": "A mug that is red.",
    "category": ["home", "mugs"],
    "brand": "Acme",
    "price": 5.0,
    "currency": "EUR",
    "available": True,
    "attributes": {"colour": "red", "margin": 0.4},
    "image_url": "http://example.com/mug.png",
    "updated_at": "2026-01-31T12:00:00Z",
}
RULE: dict[str, Any] = {
    "id": "mug",
    "kind": "exclude",
    "where": {"categories": ["Toys"], "max_price": 2},
    "placements": ["home"],
    "schedule": {"hours": ["22:00-06:00"], "time_zone": "Europe/London"},
}


class Decoder(NamedTuple):
    """A decoder under test: `call` takes what `make` made; `errors` are what it may raise."""

    name: str
    make: Callable[[random.Random], Any]
    call: Callable[[Any], Any]
    errors: type[StreamrecError]
    gives: tuple[type, ...]


def _message(
    key: bytes, *bases: dict[str, Any]
) -> Callable[[random.Random], tuple[bytes | None, bytes | None]]:
    """Make a key, mostly the right one, and a value."""
    return lambda random_: (
        key if random_.random() < 0.8 else random_.choice(KEYS),
        hostile(random_, bases),
    )


def _bytes(*good: bytes) -> Callable[[random.Random], bytes]:
    return lambda random_: (
        random_.randbytes(random_.randint(0, 40))
        if random_.random() < 0.05
        else damaged(random_, random_.choice(good))
    )


def _item(given: tuple[bytes | None, bytes | None]) -> tuple[str, ItemMessage | None]:
    item_id, message = decode_item(*given)
    if message is not None:
        item_updated_ms(message, source(topic="items"))
    return item_id, message


def _state() -> bytes:
    state = empty("ann")
    for number in range(40):
        kind = ("view_item", "purchase", "add_to_cart")[number % 3]
        state = apply(
            state, click("ann", f"i{number % 9}", kind, offset=number, at_ms=NOW_MS + number), DEFAULT_POLICY
        )
        state = apply(state, search("ann", f"mug {number}", offset=number), DEFAULT_POLICY)
    return codec.encode(state._replace(sequence=7))


def _row() -> bytes:
    given = [
        signals.Increment("clicks/0", n, NOW_MS + n, 1.0, [(f"i{n}", 1.0)], [(f"j{n}", 0.8)], session=n + 1)
        for n in range(20)
    ]
    return signals.encode(signals.fold(None, given))


def _logged() -> bytes:
    trigger = {"event_id": "e", "topic": "clicks", "partition": 0, "offset": 1, "event_time": NOW_MS}
    one = list_log.LoggedList(
        *(
            list_log.LAYOUT,
            "r1",
            "ann",
            "home",
            NOW_MS,
            list_log.Trigger(**trigger),
            {"encoder": "1"},
            "default",
        ),
        *(["a", "b"], ["mug", "cup", "jug"], [1], [0], [1.0], np.ones((3, 2), "<f2").tobytes()),
    )
    return list_log.encode(one)


def _kept() -> bytes:
    item = attribution.KeptItem("mug", "similar", 0.5, True, NOW_MS)
    kept = attribution.KeptList(
        "r1", "home", NOW_MS, NOW_MS + 1_000, "default", {"encoder": "1"}, (item,) * 3
    )
    return attribution.encode(kept)


def _letter(random_: random.Random) -> list[tuple[str, bytes]]:
    headers = [
        ("source-topic", b"clicks"),
        ("source-partition", b"3"),
        ("source-offset", b"17"),
        ("error-code", b"internal"),
        ("error-message", b"ValueError at a:b:1"),
        ("failed-at", b"2026-01-31T12:00:00.000+00:00"),
        ("cut", b"value"),
        ("original-replays", b"2"),
    ]
    chosen = random_.randrange(len(headers))
    headers[chosen] = headers[chosen][0], damaged(random_, headers[chosen][1])
    return random_.sample(headers, random_.randint(6, 8))


def _increments() -> bytes:
    one = signals.Increment("clicks/0", 3, NOW_MS, 1.0, [("cup", 1.0)], [], 9)
    return signals.encode_increments({"mug": [one]})[0][1]


def _toml(given: bytes) -> Any:
    return read_toml(given.decode(errors="replace"), "rules.toml")


SERVING = versions.encode(versions.Serving("2", "1", "3", NOW_MS, True, "because"))
DECODERS = (
    Decoder(
        "clicks",
        _message(b"ann", CLICK, IMPRESSION),
        lambda given: decode_click(source(), *given),
        InvalidMessage,
        (ClickEvent, ImpressionEvent),
    ),
    Decoder(
        "searches",
        _message(b"ann", SEARCH),
        lambda given: decode_search(source(), *given),
        InvalidMessage,
        (SearchEvent,),
    ),
    Decoder("items", _message(b"mug", ITEM), _item, InvalidMessage, (tuple,)),
    Decoder(
        "rules",
        _message(b"mug", RULE),
        lambda given: read_message(given[0], given[1] or b""),
        InvalidRule,
        (object,),
    ),
    Decoder(
        "rule files",
        _bytes(b'[[rule]]\nid = "a"\nkind = "pin"\nitem_id = "mug"\nposition = 1\n'),
        _toml,
        InvalidRule,
        (list,),
    ),
    Decoder(
        "states", _bytes(_state()), lambda given: codec.decode("ann", given), codec.UnreadableState, (tuple,)
    ),
    Decoder("signals", _bytes(_row()), signals.decode, signals.UnreadableSignals, (tuple,)),
    Decoder(
        "increments",
        _bytes(_increments()),
        lambda given: signals.decode_increments(b"mug", given),
        signals.UnreadableSignals,
        (list,),
    ),
    Decoder("logged lists", _bytes(_logged()), list_log.decode, InvalidMessage, (list_log.LoggedList,)),
    Decoder("kept lists", _bytes(_kept()), attribution.decode, attribution.UnreadableList, (tuple,)),
    Decoder(
        "item vectors",
        _bytes(vector_record.encode(item_vector("mug"))),
        vector_record.decode,
        InvalidMessage,
        (tuple,),
    ),
    Decoder("model versions", _bytes(SERVING), versions.decode, InvalidMessage, (versions.Serving,)),
    Decoder(
        "dead letters",
        _letter,
        lambda headers: letter_record.decode(0, 0, b"ann", b"{}", headers),
        InvalidMessage,
        (letter_record.Letter,),
    ),
)


@pytest.mark.timeout(0 if "STREAMREC_FUZZ_INPUTS" in os.environ else 300)
@pytest.mark.parametrize("decoder", DECODERS, ids=[decoder.name for decoder in DECODERS])
def test_whatever_comes_in_a_decoder_gives_what_it_says_or_its_one_error(decoder: Decoder) -> None:
    random_ = random.Random(f"{decoder.name} {SEED}")
    read = refused = 0
    for number in range(INPUTS):
        given = decoder.make(random_)
        try:
            found = decoder.call(given)
        except decoder.errors:
            refused += 1
        except Exception as error:
            pytest.fail(f"input {number} of seed {SEED}: {error!r} for {str(given)[:2_000]}")
        else:
            read += 1
            assert isinstance(found, decoder.gives)
    assert refused
    assert read
    print(f"{decoder.name}: {INPUTS} inputs, {read} read, {refused} refused")


ODD_IDS = (
    *("mug", "cup", "\u202emug", "\U0001f600", "a\nb", "../../etc", "%s", "{}", "'; --"),
    *("x" * 256, "\\", "-1"),
)
ODD_TEXTS = (
    *("red mug", "a", "AND OR NOT", "title:", '"', "*", "(", "mug~99999", "[a TO b]", "\\"),
    *('+-&&||!(){}[]^"~*?:/', "\u202e", "\u0301" * 40, "\U0001f600" * 50, "x" * 1_000, "мoug"),
    *("\u200b", "m u g", "0" * 400, "\ufffd", "İ" * 30),
)
ODD_PRICES = (0.0, 0.01, 1e-300, 1e38, 1e39, 1e308, None)
ODD_ATTRIBUTES = (None, {}, {"margin": 10**400}, {"margin": 1e308, "a": [1], "b": True, "": "x"})
ODD_TIMES = (100_000_000_000, 253_402_300_799_999, NOW_MS, NOW_MS + 1, NOW_MS - 1, "2026-01-31T12:00:00Z")


def _odd_click(random_: random.Random, place: int) -> RawMessage:
    user_id = random_.choice(ODD_IDS)
    lines = [
        {
            "item_id": random_.choice(ODD_IDS),
            "quantity": random_.choice((1, 10**9)),
            "price": random_.choice(ODD_PRICES),
        }
        for _ in range(random_.choice((1, 1, 3, 400)))
    ]
    return raw_click(
        user_id,
        random_.choice((None, *ODD_IDS)),
        random_.choice(
            ("view_item", "select_item", "add_to_cart", "remove_from_cart", "purchase", "view_item_list")
        ),
        offset=place,
        at_ms=random_.choice(ODD_TIMES),
        appended_ms=random_.choice((NOW_MS, NOW_MS - 10**9, 0, -1, 10**14)),
        event_id=random_.choice((f"e{place}", "again", "x" * 256)),
        items=lines,
        session_id=random_.choice((None, "s", "\U0001f600")),
        placement=random_.choice((None, "", "home", "\x00")),
        recommendation_id=random_.choice((None, "", "r1")),
        currency=random_.choice((None, "", "EUR")),
        context=random_.choice((None, {"segment": "gold"}, {"segment": 1})),
    )


def _odd_search(random_: random.Random, place: int) -> RawMessage:
    return raw_search(
        random_.choice(ODD_IDS),
        random_.choice(ODD_TEXTS),
        offset=place,
        at_ms=random_.choice(ODD_TIMES),
        appended_ms=NOW_MS,
        event_id=random_.choice((f"s{place}", "again")),
        result_item_ids=random_.choice((None, [], ["mug"], [*ODD_IDS] * 2, [f"i{n}" for n in range(1_000)])),
        placement=random_.choice((None, "", "search", "\x00")),
    )


def _odd_item(random_: random.Random, place: int) -> RawMessage:
    item_id = random_.choice(ODD_IDS)
    if random_.random() < 0.2:
        return raw_removal(item_id, offset=place)
    return raw_item(
        item_id,
        random_.choice(ODD_TEXTS),
        offset=place,
        description=random_.choice((*ODD_TEXTS, "long " * 1_000)),
        category=[random_.choice(ODD_TEXTS)[:500] for _ in range(random_.choice((0, 1, 32)))],
        brand=random_.choice(ODD_TEXTS)[:500],
        price=random_.choice(ODD_PRICES),
        available=random_.random() < 0.8,
        attributes=random_.choice(
            (None, {}, {"margin": 10**400}, {"margin": 1e308, "a": [1], "b": True, "": "x"})
        ),
        updated_at=random_.choice((None, *ODD_TIMES)),
    )


@pytest.mark.timeout(0 if "STREAMREC_FUZZ_INPUTS" in os.environ else 300)
def test_no_valid_message_however_odd_crashes_the_core() -> None:
    random_ = random.Random(f"core {SEED}")
    shop = Shop(stocked=False)
    shop.catalog = CatalogView(UsearchIndex, LexicalIndex(), shop.telemetry)
    shop.start()
    writer = CatalogWriter(shop.catalog, shop.encoder, shop.publisher, shop.telemetry, lambda _: True)
    for batch in range(max(10, INPUTS // 200)):
        places = range(8 * batch, 8 * batch + 8)
        items = [_odd_item(random_, place) for place in places]
        events = [random_.choice((_odd_click, _odd_search))(random_, place) for place in places]
        try:
            asyncio.run(writer.handle(items))
            shop.catalog.apply(read_vectors(_written(shop.publisher)))
            shop.handle(*events)
            shop.learn()
            shop.put_right()
            for made in shop.publisher.lists:
                msgspec.json.encode(made)
            for logged in shop.publisher.list_log:
                assert list_log.decode(list_log.encode(logged)) == logged
        except Exception as error:
            pytest.fail(
                f"batch {batch} of seed {SEED}: {error!r} at {place_of(error)}: {items} {events}"[:3_000]
            )
        assert all(letter.code == "invalid_field" for letter in shop.publisher.dead_letters)
        written = shop.publisher
        for some in (written.lists, written.list_log, written.signals, written.vectors, written.attributions):
            some.clear()


def _written(publisher: MemoryPublisher) -> list[tuple[bytes | None, bytes | None]]:
    """The records of `item-vectors` as they would travel."""
    return [(item_id.encode(), made and vector_record.encode(made)) for item_id, made in publisher.vectors]
