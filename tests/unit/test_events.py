"""Every bad message is refused with a code and a message that names its field; every good one is read."""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import Any

import pytest
from builders import NOW_MS, source
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.events import (
    MAX_ID_CHARS,
    MAX_MESSAGE_BYTES,
    ClickEvent,
    ItemMessage,
    Line,
    SearchEvent,
    decode_click,
    decode_item,
    decode_search,
    item_updated_ms,
)
from stream.errors import InvalidMessage

CLICK: dict[str, Any] = {
    "event_id": "e1",
    "event_type": "view_item",
    "event_time": NOW_MS,
    "user_id": "ann",
    "item_id": "mug",
}
SEARCH: dict[str, Any] = {
    "event_id": "e2",
    "event_time": NOW_MS,
    "user_id": "ann",
    "search_query": "red mug",
}
ITEM: dict[str, Any] = {"item_id": "mug", "title": "A red mug"}
MISSING = object()
DEEP = 100_000


def _json(base: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(
        {name: value for name, value in {**base, **changes}.items() if value is not MISSING}
    ).encode()


def _with(base: dict[str, Any], raw: bytes) -> bytes:
    """The base object with raw bytes as its last member."""
    return _json(base)[:-1] + b"," + raw + b"}"


def _click(value: bytes | None, key: bytes | None = b"ann", timestamp_ms: int = NOW_MS) -> ClickEvent:
    return decode_click(source(timestamp_ms=timestamp_ms), key, value)


def _search(value: bytes | None, key: bytes | None = b"ann", timestamp_ms: int = NOW_MS) -> SearchEvent:
    return decode_search(source(topic="searches", timestamp_ms=timestamp_ms), key, value)


NOT_MESSAGES: list[tuple[str, bytes | None, str, str]] = [
    ("null value", None, "null_value", "value: null"),
    ("no bytes", b"", "not_json", "value: not JSON"),
    ("no JSON", b"hello", "not_json", "value: not JSON"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "not_json", "value: not JSON"),
    ("a truncated object", b'{"event_id": "e1"', "not_json", "value: not JSON"),
    ("an array", b"[]", "not_an_object", "value: Expected `object`, got `array`"),
    ("a number", b"1", "not_an_object", "value: Expected `object`, got `int`"),
    ("a string", b'"a"', "not_an_object", "value: Expected `object`, got `str`"),
    ("null in JSON", b"null", "not_an_object", "value: Expected `object`, got `null`"),
    ("more than 1 MB", b" " * (MAX_MESSAGE_BYTES + 1), "too_large", "value: 1000001 bytes, at most 1000000"),
    ("a bomb of arrays", b"[" * DEEP, "not_an_object", "value: Expected `object`"),
]


@pytest.mark.parametrize("decode", [_click, _search], ids=["click", "search"])
@pytest.mark.parametrize(
    ("value", "code", "said"), [case[1:] for case in NOT_MESSAGES], ids=[c[0] for c in NOT_MESSAGES]
)
def test_what_is_no_json_object_is_refused(decode: Any, value: bytes | None, code: str, said: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        decode(value)
    assert raised.value.code == code
    assert said in raised.value.message


BAD_CLICKS: list[tuple[str, bytes, str, str]] = [
    *[
        (f"{name} is missing", _json(CLICK, **{name: MISSING}), "invalid_field", f"{name}: missing")
        for name in CLICK
    ],
    *[(f"{name} is null", _json(CLICK, **{name: None}), "invalid_field", f"{name}: ") for name in CLICK],
    *[
        (f"{name} is a list", _json(CLICK, **{name: ["x"]}), "invalid_field", f"{name}: Expected")
        for name in (*CLICK, "session_id", "price", "quantity", "currency", "placement", "context")
    ],
    *[
        (f"{name} is a number", _json(CLICK, **{name: 7.5}), "invalid_field", f"{name}: Expected")
        for name in (*CLICK, "session_id", "quantity", "items", "context", "recommendation_id")
    ],
    *[
        (f"{name} is empty", _json(CLICK, **{name: ""}), "invalid_field", f"{name}: Expected `str` of length")
        for name in ("event_id", "user_id", "item_id", "session_id")
    ],
    *[
        (
            f"{name} is too long",
            _json(CLICK, **{name: "x" * (MAX_ID_CHARS + 1)}),
            "invalid_field",
            f"{name}: Expected `str` of length <= 256",
        )
        for name in ("event_id", "user_id", "item_id", "session_id", "recommendation_id", "placement")
    ],
    *[
        (f"{name} is white space", _json(CLICK, **{name: " \t\n"}), "invalid_field", f"{name}: only white")
        for name in ("event_id", "user_id", "item_id")
    ],
    *[
        (f"{name} holds NUL", _json(CLICK, **{name: "a\x00b"}), "invalid_field", f"{name}: holds a NUL")
        for name in ("event_id", "user_id", "item_id")
    ],
    (
        "time without offset",
        _json(CLICK, event_time="2026-01-01T00:00:00"),
        "invalid_time",
        "event_time: not",
    ),
    ("time of no day", _json(CLICK, event_time="2026-02-30T00:00:00Z"), "invalid_time", "event_time: not"),
    ("time in words", _json(CLICK, event_time="yesterday"), "invalid_time", "event_time: not RFC 3339"),
    ("time as digits in a string", _json(CLICK, event_time=str(NOW_MS)), "invalid_time", "event_time: not"),
    ("year 10000", _json(CLICK, event_time="10000-01-01T00:00:00Z"), "invalid_time", "event_time: not"),
    ("year 10000 in ms", _json(CLICK, event_time=253_402_300_800_000), "invalid_time", "no plausible"),
    ("year 1 before UTC", _json(CLICK, event_time="0001-01-01T00:00:00+01:00"), "invalid_time", "event_time"),
    ("seconds", _json(CLICK, event_time=NOW_MS // 1000), "invalid_time", "is it in seconds?"),
    ("negative time", _json(CLICK, event_time=-1), "invalid_time", "event_time: -1 is no plausible"),
    ("zero time", _json(CLICK, event_time=0), "invalid_time", "event_time: 0 is no plausible"),
    ("a time of 400 digits", _json(CLICK, event_time=10**400), "invalid_", "event_time: "),
    ("time as float", _json(CLICK, event_time=NOW_MS + 0.5), "invalid_field", "event_time: Expected"),
    ("time as bool", _json(CLICK, event_time=True), "invalid_field", "event_time: Expected"),
    ("negative price", _json(CLICK, price=-0.01), "invalid_field", "price: Expected `float` >= 0.0"),
    ("NaN price", _json(CLICK, price=float("nan")), "invalid_field", "price: nan is no JSON number"),
    ("infinite price", _json(CLICK, price=float("inf")), "invalid_field", "price: inf is no JSON number"),
    ("-infinite price", _json(CLICK, price=-float("inf")), "invalid_field", "price: -inf is no JSON"),
    ("price beyond floats", _with(CLICK, b'"price":1e999'), "invalid_field", "price: "),
    ("price of 400 digits", _json(CLICK, price=10**400), "invalid_field", "price: "),
    ("price as string", _json(CLICK, price="3"), "invalid_field", "price: Expected"),
    ("price as bool", _json(CLICK, price=True), "invalid_field", "price: Expected"),
    (
        "NaN price of a line",
        _json(CLICK, items=[{"item_id": "a"}, {"item_id": "b", "price": float("nan")}]),
        "invalid_field",
        "items[1].price: nan is no JSON number",
    ),
    (
        "negative price of a line",
        _json(CLICK, items=[{"item_id": "a", "price": -1}]),
        "invalid_field",
        "items[0].price: Expected `float` >= 0.0",
    ),
    ("NaN inside context", _json(CLICK, context={"a": [float("nan")]}), "invalid_field", "context.a[0]: nan"),
    ("quantity 0", _json(CLICK, quantity=0), "invalid_field", "quantity: Expected `int` >= 1"),
    ("quantity 10^30", _json(CLICK, quantity=10**30), "invalid_field", "quantity: Expected `int`"),
    ("unknown event type", _json(CLICK, event_type="stare"), "unknown_event_type", "event_type: 'stare'"),
    ("event type in capitals", _json(CLICK, event_type="VIEW_ITEM"), "unknown_event_type", "event_type"),
    ("a long event type", _json(CLICK, event_type="x" * 9_000), "unknown_event_type", "event_type: 'xxx"),
    ("items: empty", _json(CLICK, items=[]), "invalid_field", "items: Expected `array` of length >= 1"),
    ("items: too many", _json(CLICK, items=[{"item_id": "a"}] * 501), "invalid_field", "items: Expected"),
    ("items: an object", _json(CLICK, items={}), "invalid_field", "items: Expected"),
    ("items: of numbers", _json(CLICK, items=[3]), "invalid_field", "items[0]: Expected `object`"),
    ("items: no id", _json(CLICK, items=[{}]), "invalid_field", "items[0].item_id: missing"),
    (
        "items: blank id",
        _json(CLICK, items=[{"item_id": "a"}, {"item_id": " "}]),
        "invalid_field",
        "items[1].item_id: only white space",
    ),
    (
        "neither item_id nor items",
        _json(CLICK, item_id=MISSING),
        "invalid_field",
        "item_id: missing (either item_id or items is required)",
    ),
    (
        "nesting bomb in a known field",
        _with(CLICK, b'"context":{"a":' + b"[" * DEEP + b"]" * DEEP + b"}"),
        "too_deep",
        "value: nested too deeply",
    ),
    (
        "nesting bomb in an unknown field",
        _with(CLICK, b'"extra":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        "too_deep",
        "value: nested too deeply",
    ),
    (
        "nesting bomb without its end",
        _with(CLICK, b'"extra":' + b"[" * DEEP),
        "too_deep",
        "value: nested too deeply",
    ),
    ("lone surrogate", _with(CLICK, b'"session_id":"\\ud800"'), "not_json", "value: not JSON in UTF-8"),
    ("not UTF-8", _json(CLICK).replace(b"mug", b"m\xffg"), "not_json", "value: not JSON in UTF-8"),
]


@pytest.mark.parametrize(
    ("value", "code", "said"), [case[1:] for case in BAD_CLICKS], ids=[case[0] for case in BAD_CLICKS]
)
def test_a_bad_click_is_refused_with_its_code_and_its_field(value: bytes, code: str, said: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        _click(value)
    assert raised.value.code.startswith(code)
    assert said in raised.value.message
    assert len(raised.value.message) < 400
    raised.value.message.encode()  # goes into a header


BAD_SEARCHES: list[tuple[str, bytes, str, str]] = [
    *[
        (f"{name} is missing", _json(SEARCH, **{name: MISSING}), "invalid_field", f"{name}: missing")
        for name in SEARCH
    ],
    (
        "empty query",
        _json(SEARCH, search_query=""),
        "invalid_field",
        "search_query: Expected `str` of length",
    ),
    ("blank query", _json(SEARCH, search_query=" \n "), "invalid_field", "search_query: only white space"),
    ("long query", _json(SEARCH, search_query="x" * 1_001), "invalid_field", "search_query: Expected"),
    ("query as number", _json(SEARCH, search_query=5), "invalid_field", "search_query: Expected `str`"),
    ("result ids of numbers", _json(SEARCH, result_item_ids=[1]), "invalid_field", "result_item_ids[0]: "),
    ("seconds", _json(SEARCH, event_time=1_790_000_000), "invalid_time", "event_time: 1790000000"),
    ("blank user", _json(SEARCH, user_id="  "), "invalid_field", "user_id: only white space"),
]


@pytest.mark.parametrize(
    ("value", "code", "said"), [case[1:] for case in BAD_SEARCHES], ids=[case[0] for case in BAD_SEARCHES]
)
def test_a_bad_search_is_refused_with_its_code_and_its_field(value: bytes, code: str, said: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        _search(value)
    assert raised.value.code == code
    assert said in raised.value.message


BAD_ITEMS: list[tuple[str, bytes, str, str]] = [
    ("no title", _json(ITEM, title=MISSING), "invalid_field", "title: missing"),
    ("blank title", _json(ITEM, title="  "), "invalid_field", "title: only white space"),
    ("negative price", _json(ITEM, price=-1), "invalid_field", "price: Expected `float` >= 0.0"),
    ("NaN price", _json(ITEM, price=float("nan")), "invalid_field", "price: nan is no JSON number"),
    ("category as string", _json(ITEM, category="home"), "invalid_field", "category: Expected `array`"),
    ("available as string", _json(ITEM, available="yes"), "invalid_field", "available: Expected `bool`"),
    ("bad updated_at", _json(ITEM, updated_at="today"), "invalid_time", "updated_at: not RFC 3339"),
    ("NUL in the id", _json(ITEM, item_id="a\x00"), "invalid_field", "item_id: holds a NUL"),
    ("bomb", _with(ITEM, b'"attributes":{"a":' + b"[" * DEEP + b"]" * DEEP + b"}"), "too_deep", "value: "),
]


@pytest.mark.parametrize(
    ("value", "code", "said"), [case[1:] for case in BAD_ITEMS], ids=[case[0] for case in BAD_ITEMS]
)
def test_a_bad_item_is_refused_with_its_code_and_its_field(value: bytes, code: str, said: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        decode_item(b"mug", value)
    assert raised.value.code == code
    assert said in raised.value.message


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "key: null, expected the user_id"),
        (b"", "key: differs from user_id"),
        (b"bob", "key: differs from user_id"),
        (b"ann ", "key: differs from user_id"),
        (b"\xff\xfe", "key: not UTF-8"),
    ],
)
def test_a_key_that_is_not_the_user_id_is_refused(key: bytes | None, said: str) -> None:
    for decode, base in ((_click, CLICK), (_search, SEARCH)):
        with pytest.raises(InvalidMessage, match=said) as raised:
            decode(_json(base), key)
        assert raised.value.code == "key_mismatch"


@pytest.mark.parametrize(
    ("key", "value", "code", "said"),
    [
        (b"cup", _json(ITEM), "key_mismatch", "key: differs from item_id"),
        (None, _json(ITEM), "key_mismatch", "key: null, expected the item_id"),
        (None, None, "key_mismatch", "key: missing"),
        (b"", None, "key_mismatch", "key: missing"),
        (b"\xff", None, "key_mismatch", "key: not UTF-8"),
        (b"x" * 257, None, "invalid_field", "key: longer than 256 characters"),
    ],
)
def test_an_item_is_named_by_its_key(key: bytes | None, value: bytes | None, code: str, said: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        decode_item(key, value)
    assert raised.value.code == code
    assert said in raised.value.message


def test_a_null_item_is_a_removal() -> None:
    assert decode_item(b"mug", None) == ("mug", None)


def test_an_item_is_read_with_defaults_for_what_it_leaves_out() -> None:
    item_id, message = decode_item(b"mug", _json(ITEM))
    assert item_id == "mug"
    assert message == ItemMessage(item_id="mug", title="A red mug")
    assert message.available


def test_an_update_in_the_future_counts_as_the_arrival() -> None:
    _, late = decode_item(b"mug", _json(ITEM, updated_at=NOW_MS + 5))
    _, early = decode_item(b"mug", _json(ITEM, updated_at=NOW_MS - 5))
    _, none = decode_item(b"mug", _json(ITEM))
    assert late is not None
    assert early is not None
    assert none is not None
    assert item_updated_ms(late, source()) == NOW_MS
    assert item_updated_ms(early, source()) == NOW_MS - 5
    assert item_updated_ms(none, source()) == NOW_MS


def test_unknown_fields_are_ignored() -> None:
    assert _click(_json(CLICK, page="/home", experiment={"arm": [1, None, {"x": 2.5}]})) == _click(
        _json(CLICK)
    )
    assert _search(_json(SEARCH, page="/home")) == _search(_json(SEARCH))


def test_of_a_field_named_twice_the_last_one_counts() -> None:
    assert _click(_with(CLICK, b'"item_id":"cup"')).lines == (Line("cup", 1, None),)


def test_a_key_mismatch_by_a_field_named_twice_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="key: differs from user_id"):
        _click(_with(CLICK, b'"user_id":"bob"'))


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T14:00:00+02:00", 1_769_860_800_000),
        ("2026-01-31T12:00:00.001Z", 1_769_860_800_001),
        ("2026-01-31T12:00:00.999999Z", 1_769_860_800_999),
        ("2026-01-31t12:00:00z", 1_769_860_800_000),
    ],
)
def test_rfc_3339_times_become_epoch_milliseconds(text: str, at_ms: int) -> None:
    assert _click(_json(CLICK, event_time=text)).at_ms == at_ms


@settings(max_examples=100)
@given(st.integers(1_400_000_000_000, NOW_MS))
def test_no_millisecond_of_a_text_is_lost(at_ms: int) -> None:
    seconds, rest_ms = divmod(at_ms, 1000)
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(microsecond=rest_ms * 1000)
    assert _click(_json(CLICK, event_time=at.isoformat())).at_ms == at_ms


def test_a_time_in_the_future_is_clamped_to_the_broker_s() -> None:
    assert _click(_json(CLICK, event_time=NOW_MS + 1)).at_ms == NOW_MS
    assert _search(_json(SEARCH, event_time="2099-01-01T00:00:00Z")).at_ms == NOW_MS
    assert _click(_json(CLICK, event_time=NOW_MS - 1)).at_ms == NOW_MS - 1


def test_a_click_on_several_items_has_a_line_for_each_once() -> None:
    value = _json(
        CLICK,
        event_type="purchase",
        price=2.5,
        quantity=3,
        items=[{"item_id": "mug", "quantity": 9}, {"item_id": "cup", "price": 1}, {"item_id": "cup"}],
    )
    assert _click(value).lines == (Line("mug", 3, 2.5), Line("cup", 1, 1.0))


def test_a_click_may_name_its_items_in_the_list_only() -> None:
    assert _click(_json(CLICK, item_id=MISSING, items=[{"item_id": "cup"}])).lines == (Line("cup", 1, None),)


def test_white_space_of_a_query_is_tidied() -> None:
    assert _search(_json(SEARCH, search_query="  red \n  mug ")).query == "red mug"


def test_ids_in_any_script_are_kept_as_they_are() -> None:
    user_id = "ユーザー 🛒\n\\"
    event = _click(_json(CLICK, user_id=user_id, item_id="カップ"), user_id.encode())
    assert (event.user_id, event.lines[0].item_id) == (user_id, "カップ")


def test_an_id_of_the_greatest_length_is_taken() -> None:
    assert _click(_json(CLICK, item_id="x" * MAX_ID_CHARS)).lines[0].item_id == "x" * MAX_ID_CHARS


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_field_names = st.sampled_from(
    [*CLICK, *SEARCH, *ITEM, "items", "price", "quantity", "session_id", "updated_at"]
)


def _decode_all(key: bytes | None, value: bytes | None) -> None:
    for decode in (_click, _search):
        with contextlib.suppress(InvalidMessage):
            decode(value, key)
    with contextlib.suppress(InvalidMessage):
        decode_item(key, value)


@settings(max_examples=150)
@given(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(key: bytes | None, value: bytes | None) -> None:
    _decode_all(key, value)


@settings(max_examples=150)
@given(st.dictionaries(_field_names, _json_values, max_size=6))
def test_any_json_is_read_or_refused(changes: dict[str, Any]) -> None:
    for base in (CLICK, SEARCH, ITEM):
        _decode_all(b"ann", json.dumps({**base, **changes}).encode())


@settings(max_examples=100)
@given(st.integers(0, 120), st.binary(min_size=1, max_size=3))
def test_any_damage_to_a_good_message_is_read_or_refused(place: int, damage: bytes) -> None:
    for base in (CLICK, SEARCH, ITEM):
        good = _json(base)
        _decode_all(b"ann", good[:place] + damage + good[place + 1 :])
