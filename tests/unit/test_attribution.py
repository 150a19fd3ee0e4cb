"""Which list an event belongs to, and what a record says of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest
from builders import NOW_MS, minutes, raw_click
from hypothesis import given
from hypothesis import strategies as st

from stream.core import attribution
from stream.core.attribution import KeptItem, KeptList, UnreadableList, attributions, decode, encode, marked
from stream.core.events import Attribution, ClickEvent, ImpressionEvent, decode_click
from stream.core.policy import HOUR_MS, Policy

POLICY = Policy()


def kept(
    name: str,
    *items: str,
    age_min: float = 10,
    placement: str = "home",
    shown_min: float | None = None,
    valid_min: float = 60,
) -> KeptList:
    """A list made `age_min` before now; `shown_min` before now all its items were shown."""
    made_ms = NOW_MS - minutes(age_min)
    shown_ms = 0 if shown_min is None else NOW_MS - minutes(shown_min)
    places = tuple(KeptItem(item, "session", 1.0, False, shown_ms) for item in items)
    return KeptList(
        name,
        placement,
        made_ms,
        made_ms + minutes(valid_min),
        "p1",
        {"encoder": "3", "reranker": "7"},
        places,
    )


def event(kind: str = "select_item", *items: str, **more: object) -> ClickEvent | ImpressionEvent:
    lines = [{"item_id": item} for item in items]
    return decode_click(*raw_click(item_id=None, kind=kind, items=lines, **more)[:3])


def told(one: ClickEvent | ImpressionEvent, *lists: KeptList, policy: Policy = POLICY) -> list[Attribution]:
    return attributions(one, lists, policy)


def brief(records: Sequence[Attribution]) -> list[tuple[str, str, list[tuple[str, int]]]]:
    return [
        (record.recommendation_id, record.matched, [(item.item_id, item.rank) for item in record.items])
        for record in records
    ]


def test_an_event_that_names_a_list_belongs_to_it_whatever_is_newer() -> None:
    old, new = kept("old", "mug", "cup", age_min=50), kept("new", "cup", age_min=1)
    assert brief(told(event("select_item", "cup", recommendation_id="old", placement="home"), old, new)) == [
        ("old", "recommendation_id", [("cup", 2)])
    ]


def test_an_event_that_names_a_list_which_is_not_kept_belongs_to_none() -> None:
    assert (
        told(event("select_item", "mug", recommendation_id="gone", placement="home"), kept("r", "mug")) == []
    )


def test_an_impression_without_a_list_belongs_to_the_newest_of_its_placement() -> None:
    lists = [
        kept("older", "mug", "cup", age_min=20),
        kept("newest", "cup", "mug", "pot", age_min=10),
        kept("elsewhere", "mug", age_min=5, placement="cart"),
        kept("later", "mug", age_min=-5),
    ]
    for order in permutations(lists):
        records = told(event("view_item_list", "mug", "pot", "unheard", placement="home"), *order)
        assert brief(records) == [("newest", "placement", [("mug", 2), ("pot", 3)])]


def test_a_list_that_expired_is_not_found_by_its_placement_but_by_its_name() -> None:
    expired = kept("r", "mug", age_min=90)
    assert told(event("select_item", "mug", placement="home"), expired) == []
    assert len(told(event("select_item", "mug", recommendation_id="r"), expired)) == 1


def test_without_name_and_placement_a_click_belongs_to_no_list() -> None:
    assert told(event("select_item", "mug"), kept("r", "mug", shown_min=1)) == []


def test_a_visit_of_a_page_is_a_click_only_where_it_names_the_list() -> None:
    one = kept("r", "mug")
    assert told(event("view_item", "mug", placement="home"), one) == []
    [record] = told(event("view_item", "mug", recommendation_id="r"), one)
    assert record.outcome == "click"


@pytest.mark.parametrize(("kind", "outcome"), [("add_to_cart", "cart"), ("purchase", "purchase")])
def test_what_is_bought_belongs_to_the_last_list_that_showed_it(kind: str, outcome: str) -> None:
    lists = [
        kept("first", "mug", "cup", shown_min=30),
        kept("last", "pot", "mug", shown_min=20),
        kept("made-only", "mug", age_min=1),
        kept("shown-later", "mug", shown_min=-3),
    ]
    [record] = told(event(kind, "mug"), *lists)
    assert (record.outcome, *brief([record])) == (outcome, ("last", "item", [("mug", 2)]))


def test_the_lines_of_a_purchase_go_each_to_its_own_list() -> None:
    lists = [kept("a", "mug", shown_min=30), kept("b", "x", "cup", "pot", shown_min=20)]
    records = told(event("purchase", "pot", "mug", "cup", "nowhere"), *lists)
    assert brief(records) == [("b", "item", [("cup", 2), ("pot", 3)]), ("a", "item", [("mug", 1)])]
    assert len({record.attribution_id for record in records}) == 2


def test_of_a_purchase_that_names_a_list_the_other_lines_go_to_the_lists_that_showed_them() -> None:
    lists = [kept("a", "mug", shown_min=30), kept("named", "cup")]
    records = told(event("purchase", "cup", "mug", recommendation_id="named"), *lists)
    assert brief(records) == [("named", "recommendation_id", [("cup", 1)]), ("a", "item", [("mug", 1)])]


def test_what_was_shown_before_the_window_is_not_credited() -> None:
    policy = Policy(attribution_hours=1)
    assert told(event("purchase", "mug"), kept("r", "mug", age_min=90, shown_min=61), policy=policy) == []
    assert told(event("purchase", "mug"), kept("r", "mug", age_min=90, shown_min=60), policy=policy)


def test_taking_out_of_the_cart_tells_nothing() -> None:
    one = kept("r", "mug", shown_min=1)
    assert told(event("remove_from_cart", "mug", recommendation_id="r"), one) == []


def test_a_record_carries_what_made_the_list_and_what_the_event_says() -> None:
    places = (
        KeptItem("mug", "session", 1.0, False, NOW_MS - 9),
        KeptItem("cup", "new", 0.25, True, NOW_MS - 9),
    )
    one = kept("r", age_min=1)._replace(items=places)
    lines = [{"item_id": "cup", "quantity": 3, "price": 2.5}, {"item_id": "mug", "quantity": 1}]
    bought = decode_click(
        *raw_click(item_id=None, kind="purchase", items=lines, currency="EUR", event_id="e1")[:3]
    )
    [record] = attributions(bought, [one], POLICY, automated=True)
    assert record.user_id == "ann"
    assert (record.event_id, record.event_time, record.generated_at) == ("e1", NOW_MS, one.generated_ms)
    assert (record.policy, record.model_versions) == ("p1", {"encoder": "3", "reranker": "7"})
    assert (record.currency, record.value, record.automated) == ("EUR", 7.5, True)
    mug, cup = record.items
    assert (mug.rank, mug.source, mug.propensity, mug.explored, mug.quantity, mug.price) == (
        *(1, "session", 1.0, False),
        *(1, None),
    )
    assert (cup.rank, cup.source, cup.propensity, cup.explored, cup.quantity, cup.price) == (
        *(2, "new", 0.25, True),
        *(3, 2.5),
    )


def test_the_same_event_and_lists_give_the_same_records() -> None:
    lists = [kept("a", "mug", shown_min=30), kept("b", "cup", shown_min=20)]
    one = event("purchase", "mug", "cup")
    assert told(one, *lists) == told(one, *reversed(lists))


def test_what_comes_to_pass_later_does_not_change_the_record_of_an_earlier_event() -> None:
    lists = (kept("a", "mug", shown_min=30), kept("b", "mug", age_min=5))
    bought = event("purchase", "mug", at_ms=NOW_MS - minutes(2))
    later = told(event("select_item", "mug", recommendation_id="b"), *lists)
    known = attribution.merged(lists, marked(lists, later, POLICY))
    assert told(bought, *known) == told(bought, *lists)
    assert brief(told(event("purchase", "mug"), *known)) == [("b", "item", [("mug", 1)])]


def test_lists_are_marked_the_same_in_any_order() -> None:
    lists = (kept("a", "mug", "cup"), kept("b", "mug"), kept("c", "pot"))
    records = [
        record
        for one in (
            event("view_item_list", "mug", "cup", recommendation_id="a", at_ms=NOW_MS - 500),
            event("select_item", "cup", recommendation_id="a", at_ms=NOW_MS - 900),
            event("select_item", "mug", recommendation_id="b"),
        )
        for record in told(one, *lists)
    ]
    expected = marked(lists, records, POLICY)
    assert [one.recommendation_id for one in expected] == ["a", "b"]
    assert [item.shown_ms for item in expected[0].items] == [NOW_MS - 500, NOW_MS - 900]
    for order in permutations(records):
        assert marked(lists, order, POLICY) == expected
        so_far: tuple[KeptList, ...] = lists
        for record in order:
            so_far = attribution.merged(so_far, marked(so_far, [record], POLICY))
        assert marked(so_far, [], POLICY) == expected


def test_of_the_lists_that_were_shown_the_newest_few_within_the_window_are_kept() -> None:
    lists = [kept(f"r{n}", "mug", age_min=60, shown_min=40 - n) for n in range(10)]
    ancient = kept("ancient", "mug", shown_min=POLICY.attribution_hours * 60 + 41)
    assert [one.recommendation_id for one in marked([ancient, *lists], [], POLICY)] == [
        f"r{n}" for n in range(10 - attribution.SHOWN_KEPT, 10)
    ]
    assert [one.recommendation_id for one in marked([ancient, lists[9]], [], POLICY)] == ["r9"]


places = st.builds(
    KeptItem,
    st.text("abc019 é\n", min_size=1, max_size=12),
    st.sampled_from(["session", "new", "query"]),
    st.sampled_from([1.0, 0.5, 0.015625]),
    st.booleans(),
    st.sampled_from([0, NOW_MS, NOW_MS + 4]),
)
kept_lists = st.builds(
    KeptList,
    st.text("abc09", max_size=24),
    st.text("ab é", max_size=8),
    st.just(NOW_MS),
    st.integers(NOW_MS, NOW_MS + 100 * HOUR_MS),
    st.text("ab é", max_size=8),
    st.dictionaries(st.sampled_from(["encoder", "reranker"]), st.text("123", max_size=3)),
    st.lists(places, max_size=30).map(tuple),
)


@given(kept_lists)
def test_a_kept_list_is_read_as_it_was_written(one: KeptList) -> None:
    assert decode(encode(one)) == one


def test_the_bytes_of_version_1_stay_readable() -> None:
    golden = bytes.fromhex(GOLDEN)
    assert decode(golden) == kept("r1", "mug", "cup", shown_min=2)


@pytest.mark.parametrize("data", [b"", b"\x02rest", b"\x01", b"\x01garbage", b"\x01\x03\x00"])
def test_bytes_that_are_no_list_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableList):
        decode(data)


def test_a_list_of_twenty_takes_few_bytes() -> None:
    items = [f"{85048 + 37 * n}{'ABCD'[n % 4]}" for n in range(20)]
    one = kept("0f3c5d0a1b2e4f6071829304", *items)
    assert len(encode(one)) < 350


GOLDEN = (
    "019bbda8c87049467e6eea790606c60547dc5d1cce3198bd6b585460d8b43c352f393f25b568a1f18aa2d4a2c4bc6c20d3"
    "7cd2e2dcd2f4c5c9a505139717a7161767e6e74d626098306912c33906f66086498c600a00"
)
