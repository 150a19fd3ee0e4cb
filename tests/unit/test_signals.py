"""Signals of items: what an event teaches, and a fold that counts every increment once."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core import signals
from stream.core.events import ClickEvent, EventType, Line, SearchEvent, Source
from stream.core.items import Item, ItemTable
from stream.core.policy import DAY_MS, Policy
from stream.core.signals import EMPTY, Increment, UnreadableSignals, fold, increments
from stream.core.state import UserState, apply, empty

POLICY = Policy()
NOW_MS = 1_790_000_000_000

items = st.sampled_from([f"item-{number}" for number in range(12)])
pairs = st.lists(st.tuples(items, st.floats(0.05, 4.0)), max_size=4)
new_increments = st.lists(
    st.builds(
        Increment,
        source=st.sampled_from(["clicks/0", "clicks/1", "searches/0"]),
        offset=st.just(0),
        at_ms=st.integers(NOW_MS - 400 * DAY_MS, NOW_MS),
        popularity=st.sampled_from([0.0, 1.0]),
        forward=pairs,
        backward=pairs,
        session=st.integers(0, 4),
    ),
    max_size=12,
).map(lambda made: [_at_offset(increment, offset) for offset, increment in enumerate(made)])


def _at_offset(increment: Increment, offset: int) -> Increment:
    return Increment(
        source=increment.source,
        offset=offset,
        at_ms=increment.at_ms,
        popularity=increment.popularity,
        forward=increment.forward,
        backward=increment.backward,
        session=increment.session
        and 10 * increment.session + len(increment.source) + int(increment.source[-1]),
    )


def click(
    offset: int,
    *item_ids: str,
    at_ms: int | None = None,
    event_type: EventType = "view_item",
    session: str | None = None,
) -> ClickEvent:
    at_ms = NOW_MS + offset * 1000 if at_ms is None else at_ms
    lines = tuple(Line(item_id, 1, None) for item_id in item_ids)
    return ClickEvent(
        f"e{offset}", "u", at_ms, Source("clicks", 3, offset, at_ms), event_type, lines, session, None
    )


def play(*events: ClickEvent) -> tuple[UserState, list[dict[str, Increment]]]:
    state, learnt = empty("u"), []
    for event in events:
        after = apply(state, event, POLICY)
        learnt.append(increments(state, after, event, POLICY))
        state = after
    return state, learnt


def weights(row: signals.ItemSignals, at_ms: int = NOW_MS) -> dict[str, tuple[float, float]]:
    """Forward and backward weights of a row at a time."""
    columns = signals.neighbours_at(np.stack([row.forward, row.backward]), at_ms)
    return {item_id: (float(f), float(b)) for item_id, f, b in zip(row.neighbours, *columns, strict=True)}


def glimpses(row: signals.ItemSignals) -> dict[int, tuple[int, list[str]]]:
    """When each remembered session was heard of, and the items around this one."""
    names = [*row.neighbours, *[""] * (signals.NOBODY + 1 - len(row.neighbours))]
    return {
        session: (seen_s, [names[place] for place in around])
        for session, seen_s, around in zip(
            row.sessions.tolist(), row.seen_s.tolist(), row.around.tolist(), strict=True
        )
    }


def assert_same(one: signals.ItemSignals, other: signals.ItemSignals) -> None:
    assert one.applied == other.applied
    assert one.popularity == pytest.approx(other.popularity, abs=1e-6)
    assert glimpses(one) == glimpses(other)
    assert weights(one).keys() == weights(other).keys()
    for item_id, pair in weights(one).items():
        assert pair == pytest.approx(weights(other)[item_id], rel=1e-3)


# What an event teaches


def test_the_first_item_of_a_session_gets_popularity_and_no_pairs() -> None:
    _, [learnt] = play(click(7, "a"))
    session, bit = learnt["a"].session, learnt["a"].shopper
    assert learnt == {"a": Increment("clicks/3", 7, NOW_MS + 7000, 1.0, session=session, shopper=bit)}
    assert 1 <= bit <= signals.SHOPPER_BITS


def test_an_item_pairs_with_those_before_it_and_nearer_ones_count_more() -> None:
    _, learnt = play(click(1, "a"), click(2, "b"), click(3, "c"))
    assert learnt[2]["c"].backward == [("b", 1.0), ("a", 0.8)]
    assert learnt[2]["b"].forward == [("c", 1.0)]
    assert learnt[2]["a"].forward == [("c", 0.8)]
    assert learnt[2]["c"].popularity == 1.0
    assert learnt[2]["a"].popularity == 0.0


def test_an_item_counts_once_in_a_session_whatever_is_done_with_it() -> None:
    _, learnt = play(
        click(1, "a"), click(2, "a", event_type="add_to_cart"), click(3, "a", event_type="purchase")
    )
    assert learnt[1:] == [{}, {}]


def test_an_item_counts_again_in_a_session_of_the_next_day() -> None:
    _, learnt = play(click(1, "a", session="one"), click(2, "a", session="two", at_ms=NOW_MS + 2 * DAY_MS))
    assert learnt[1]["a"].popularity == 1.0


def test_a_shopper_counts_for_an_item_and_a_pair_once_a_day_however_many_sessions() -> None:
    sessions = [click(2 * n + k, item, session=f"s{n}") for n in range(20) for k, item in enumerate("ab")]
    _, learnt = play(*sessions)
    popularity = [one.popularity for some in learnt for one in some.values()]
    pairs = [pair for some in learnt for one in some.values() for pair in one.forward + one.backward]
    assert sum(popularity) == 2
    assert pairs == [("b", 1.0), ("a", 1.0)]


def test_an_item_seen_earlier_in_the_day_still_leads_to_what_is_new() -> None:
    _, learnt = play(click(1, "a", session="one"), click(2, "a", session="two"), click(3, "b", session="two"))
    assert learnt[1] == {}
    assert learnt[2]["a"].forward == [("b", 1.0)]


def test_a_day_that_the_state_has_forgotten_in_part_teaches_nothing_more() -> None:
    kept = POLICY.interactions_kept
    _, learnt = play(*(click(n, f"item-{n}", session=f"s{n}") for n in range(kept + 10)))
    assert all(learnt[:kept])
    assert not any(learnt[kept:])


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.integers(0, 2 * DAY_MS)), max_size=40)
)
def test_what_a_shopper_counts_a_day_is_bounded_in_any_order(acts: list[tuple[str, int, int]]) -> None:
    events = [
        click(n, item, session=f"s{session}", at_ms=NOW_MS - late_ms)
        for n, (item, session, late_ms) in enumerate(acts)
    ]
    _, learnt = play(*events)
    counted: dict[tuple[int, str, str], int] = {}
    for event, some in zip(events, learnt, strict=True):
        for item_id, one in some.items():
            day = event.at_ms // DAY_MS
            if one.popularity:
                counted[day, item_id, ""] = counted.get((day, item_id, ""), 0) + 1
            for other, _ in one.forward:
                counted[day, item_id, other] = counted.get((day, item_id, other), 0) + 1
    assert max(counted.values(), default=1) == 1


def test_the_bit_of_a_shopper_differs_from_item_to_item() -> None:
    bits = {signals._bit_of("u", f"item-{n}") for n in range(100)}
    assert len(bits) > 8


def test_a_sketch_never_has_more_bits_than_there_were_shoppers() -> None:
    row, seen = None, []
    for shopper in range(30):
        bit = signals._bit_of(f"shopper-{shopper}", "a")
        pairs = [("b", 1.0)]
        row = fold(row, [Increment("clicks/0", shopper, NOW_MS, 1.0, pairs, shopper=bit)] * 2)
        seen.append(int(row.shoppers[0]).bit_count())
    assert all(bits <= shoppers for shoppers, bits in enumerate(seen, start=1))
    assert seen[-1] > 8


def test_neighbours_of_too_few_shoppers_are_in_no_view_nor_glimpse() -> None:
    table = ItemTable()
    rare, often = table.put(Item("rare", "RARE")), table.put(Item("often", "OFTEN"))
    row = fold(
        None,
        [
            Increment("clicks/0", 1, NOW_MS, 1.0, [("rare", 1.0), ("often", 0.8)], session=3, shopper=1),
            Increment("clicks/0", 2, NOW_MS, 1.0, [("often", 1.0)], session=4, shopper=2),
        ],
    )
    assert set(signals.view(row, table, 1).slots.tolist()) == {rare, often}
    seen = signals.view(row, table, 2)
    assert seen.slots.tolist() == [often]
    assert rare not in seen.around
    assert often in seen.around
    assert signals.view(row, table, 3).slots.tolist() == []


def test_a_shopper_alone_never_reaches_two_however_often() -> None:
    row = None
    for offset in range(50):
        bit = signals._bit_of("u", "a")
        row = fold(row, [Increment("clicks/0", offset, NOW_MS, 1.0, [("b", 1.0)], shopper=bit)])
    assert int(row.shoppers[0]).bit_count() == 1


def test_items_of_different_sessions_make_no_pairs() -> None:
    _, learnt = play(click(1, "a", session="one"), click(2, "b", session="two"))
    assert learnt[1].keys() == {"b"}


def test_an_event_repeated_teaches_nothing() -> None:
    event = click(1, "a")
    _, learnt = play(event, event)
    assert learnt[1] == {}


def test_taking_an_item_out_of_the_cart_teaches_nothing() -> None:
    _, learnt = play(click(1, "a"), click(2, "b", event_type="remove_from_cart"))
    assert learnt[1] == {}


def test_a_search_teaches_nothing_about_items() -> None:
    search = SearchEvent("s", "u", NOW_MS, Source("searches", 0, 1, NOW_MS), "mug", None, None)
    state = empty("u")
    assert increments(state, apply(state, search, POLICY), search, POLICY) == {}


def test_the_lines_of_one_event_pair_in_their_order() -> None:
    _, [learnt] = play(click(1, "a", "b", event_type="purchase"))
    assert learnt["a"].forward == [("b", 1.0)]
    assert learnt["b"].backward == [("a", 1.0)]


def test_a_late_event_pairs_only_with_what_came_before_it() -> None:
    _, learnt = play(click(1, "a"), click(9, "c"), click(10, "b", at_ms=NOW_MS + 5000))
    assert learnt[2].keys() == {"a", "b"}


def test_an_event_leads_to_a_bounded_number_of_increments() -> None:
    events = [click(offset, f"item-{offset}") for offset in range(40)]
    _, learnt = play(*events)
    assert max(map(len, learnt)) == 1 + signals.REACH


def test_the_same_event_on_the_same_state_teaches_the_same() -> None:
    state, _ = play(click(1, "a"), click(2, "b"))
    event = click(3, "c")
    after = apply(state, event, POLICY)
    assert increments(state, after, event, POLICY) == increments(state, after, event, POLICY)


# The fold


@given(new_increments)
def test_replayed_increments_change_nothing(new: list[Increment]) -> None:
    row = fold(None, new)
    assert fold(row, new) is row
    for start in range(len(new)):
        assert fold(row, new[start:]) is row


@given(new_increments, st.randoms())
def test_duplicates_and_any_batching_fold_to_the_same_row(new: list[Increment], random) -> None:
    once = fold(None, new)
    row = None
    position = 0
    while position < len(new):
        start = random.randint(0, position)  # a crash gives some of what was folded again
        end = random.randint(position + 1, len(new))
        row = fold(row, new[start:end])
        position = end
    assert_same(once, EMPTY if row is None else row)


@given(new_increments, st.randoms())
def test_any_interleaving_of_the_sources_folds_to_the_same_row(new: list[Increment], random) -> None:
    by_source = {
        source: [increment for increment in new if increment.source == source]
        for source in {increment.source for increment in new}
    }
    shuffled = []
    while any(by_source.values()):
        source = random.choice(sorted(source for source, left in by_source.items() if left))
        shuffled.append(by_source[source].pop(0))
    assert_same(fold(None, new), fold(None, shuffled))


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(0, 400))
def test_a_row_is_bounded(rounds: int, extra: int) -> None:
    row = None
    for number in range(rounds):
        pairs = [(f"{number}-{place}", 1.0) for place in range(extra)]
        row = fold(row, [Increment("clicks/0", number, NOW_MS, 1.0, forward=pairs, backward=pairs)])
    assert row is not None
    assert len(row.neighbours) == min(rounds * extra, signals.MAX_NEIGHBOURS)
    assert len(signals.encode(row)) <= signals.MAX_ROW_BYTES


def test_the_lightest_neighbours_are_dropped() -> None:
    heavy = [("heavy", 5.0)]
    light = [(f"light-{place}", 1.0) for place in range(signals.MAX_NEIGHBOURS + 50)]
    row = fold(None, [Increment("clicks/0", 1, NOW_MS, forward=[*light, *heavy])])
    assert "heavy" in row.neighbours


def test_an_old_pair_gives_way_to_a_new_one() -> None:
    old = [("old", 1.0)]
    new = [(f"new-{place}", 1.0) for place in range(signals.MAX_NEIGHBOURS)]
    row = fold(None, [Increment("clicks/0", 1, NOW_MS - 300 * DAY_MS, forward=old)])
    row = fold(row, [Increment("clicks/0", 2, NOW_MS, forward=new)])
    assert "old" not in row.neighbours


@given(st.floats(0, 3000), st.floats(0, 3000))
def test_newer_increments_weigh_more_whatever_the_order(one_days: float, other_days: float) -> None:
    newer, older = sorted([one_days, other_days])
    first = Increment("clicks/0", 1, NOW_MS - int(one_days * DAY_MS), 1.0, forward=[("x", 1.0)])
    second = Increment("clicks/1", 1, NOW_MS - int(other_days * DAY_MS), 1.0, forward=[("x", 1.0)])
    row = fold(fold(None, [first]), [second])
    days = signals.NEIGHBOUR_DAYS
    assert weights(row)["x"][0] == pytest.approx(2 ** (-newer / days) + 2 ** (-older / days), rel=1e-3)


def test_a_weight_halves_in_its_half_life() -> None:
    row = fold(None, [Increment("clicks/0", 1, NOW_MS, 1.0)])
    popularity = np.array([row.popularity], np.float32)
    for place, days in enumerate(signals.POPULARITY_DAYS):
        later = signals.popularity_at(popularity, NOW_MS + int(days * DAY_MS))
        assert later[0, place] == pytest.approx(0.5, rel=0.01)


def test_dates_centuries_apart_overflow_nothing() -> None:
    past = Increment("clicks/0", 1, 100_000_000_000, 1.0, forward=[("x", 1.0)])
    future = Increment("clicks/0", 2, 253_402_300_799_999, 1.0, forward=[("x", 1.0)])
    row = fold(fold(None, [past]), [future])
    assert all(map(math.isfinite, row.popularity))
    assert np.isfinite(row.forward).all()
    assert np.isfinite(signals.popularity_at(np.array([row.popularity], np.float32), 0)).all()


def test_trends_compare_without_a_clock() -> None:
    yesterday = [Increment("clicks/0", n, NOW_MS - DAY_MS, 1.0) for n in range(3)]
    today = [Increment("clicks/0", n, NOW_MS, 1.0) for n in range(2)]
    assert fold(None, today).popularity[0] > fold(None, yesterday).popularity[0]


# Bytes


@given(new_increments)
def test_a_row_reads_back_as_it_was_written(new: list[Increment]) -> None:
    row = fold(None, new)
    read = signals.decode(signals.encode(row))
    assert (read.applied, read.popularity, read.neighbours) == (row.applied, row.popularity, row.neighbours)
    np.testing.assert_array_equal(read.forward, row.forward)
    np.testing.assert_array_equal(read.backward, row.backward)


@given(st.dictionaries(st.sampled_from(["mug", "cup", "tea pot"]), new_increments))
def test_messages_of_increments_read_back_as_they_were_written(new: dict[str, list[Increment]]) -> None:
    messages = signals.encode_increments(new)
    read = [taught for key, value in messages for taught in signals.decode_increments(key.encode(), value)]
    assert {taught.item_id: taught.increments for taught in read} == new
    assert [key for key, _ in messages] == list(new)[:1]


def test_what_is_too_much_for_one_message_goes_in_several() -> None:
    pairs = [("x" * 200, 1.0)] * 24
    new = {f"item-{number}": [Increment("clicks/0", number, NOW_MS, 1.0, pairs)] for number in range(200)}
    messages = signals.encode_increments(new)
    assert len(messages) == 3
    assert max(len(value) for _, value in messages) < 1_000_000
    read = [signals.decode_increments(None, value) for _, value in messages]
    assert [some[0].item_id for some in read] == [key for key, _ in messages]
    assert {one.item_id: one.increments for some in read for one in some} == new


VERSION_1 = (
    "019581a8636c69636b732f330794cb40d43b65ed097b42cb40a02f84bda12f68cb408594b0fcd6e9e0cb406594b0fcd6e9e0"
    "a3620061c40888a52c43000080ffc408000080ff1e532c43"
)
VERSION_2 = (
    "029a81a8636c69636b732f330994cb40d43bcb5d1009c1cb40a0319ec8c5aabccb40859cd35171f5a0cb4065b4d32b9757a8"
    "a3620061c40888a52c43000080ffc408aaa72c431e532c43c408afcb2c44ed502c44c40888a52c43000080ffc4084e000000"
    "4d000000c408008db26a803bb16ac418ffffffffff00ffffffffffffffffffff01ff00ffffffffff"
)


VERSION_3 = (
    "039b81a8636c69636b732f330994cb40d43bcb5d1009c1cb40a0319ec8c5aabccb40859cd35171f5a0cb4065b4d32b9757a8"
    "a3620061c40888a52c43000080ffc408aaa72c431e532c43c408afcb2c44ed502c44c40888a52c43000080ffc40401800100"
    "c4084e0000004d000000c408008db26a803bb16ac418ffffffffff00ffffffffffffffffffff01ff00ffffffffff"
)


def test_the_bytes_of_version_3_are_read_for_ever() -> None:
    first = Increment("clicks/3", 7, NOW_MS, 1.0, [("b", 1.0)], [("a", 0.8)], 77, 1)
    later = Increment("clicks/3", 9, NOW_MS + DAY_MS, 1.0, [], [("b", 1.0)], 78, 16)
    row = fold(None, [first, later])
    assert signals.encode(row).hex() == VERSION_3
    assert_same(signals.decode(bytes.fromhex(VERSION_3)), row)
    assert row.shoppers.tolist() == [0x8001, 1]


def test_the_bytes_of_version_2_are_read_for_ever_and_tell_of_no_shopper() -> None:
    first = Increment("clicks/3", 7, NOW_MS, 1.0, [("b", 1.0)], [("a", 0.8)], 77)
    later = Increment("clicks/3", 9, NOW_MS + DAY_MS, 1.0, [], [("b", 1.0)], 78)
    row = signals.decode(bytes.fromhex(VERSION_2))
    assert_same(row, fold(None, [first, later]))
    table = ItemTable()
    slot = table.put(Item("b", "B"))
    assert signals.view(row, table, 2).slots.tolist() == []
    assert signals.view(row, table, 1).slots.tolist() == [slot]
    pairs = [("b", 1.0)]
    met = [Increment("clicks/3", 10 + n, NOW_MS, 1.0, pairs, shopper=1 + n) for n in range(2)]
    assert signals.view(fold(row, met), table, 2).slots.tolist() == [slot]


def test_a_row_of_version_1_is_gone_on_from() -> None:
    row = signals.decode(bytes.fromhex(VERSION_1))
    assert weights(row)["b"][0] == pytest.approx(1.0, rel=1e-3)
    assert weights(row)["a"][1] == pytest.approx(0.8, rel=1e-3)
    assert len(row.sessions) == 0
    row = fold(row, [Increment("clicks/3", 8, NOW_MS, 1.0, [("b", 1.0)], [], 5)])
    assert weights(row)["b"][0] == pytest.approx(2.0, rel=1e-3)
    assert signals.neighbours_at(row.next, NOW_MS)[0] == pytest.approx(1.0, rel=1e-3)
    assert row.sessions.tolist() == [5]


@pytest.mark.parametrize("data", [b"", b"\x09abc", b"\x01", b"\x01\x93\x01\x02\x03"])
def test_damaged_rows_are_named(data: bytes) -> None:
    with pytest.raises(UnreadableSignals):
        signals.decode(data)


@given(new_increments.filter(bool), st.data())
def test_a_row_cut_short_is_named(new: list[Increment], data: st.DataObject) -> None:
    written = signals.encode(fold(None, new))
    with pytest.raises(UnreadableSignals):
        signals.decode(written[: data.draw(st.integers(0, len(written) - 1))])


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'[{"source": "a"}]'])
def test_damaged_increments_are_named(data: bytes) -> None:
    with pytest.raises(UnreadableSignals):
        signals.decode_increments(b"mug", data)


# Glimpses


def test_a_row_remembers_what_was_near_it_in_a_session() -> None:
    _, learnt = play(*(click(place, f"item-{place}", session="s") for place in range(5)))
    row = fold(None, [new for at_once in learnt for item_id, new in at_once.items() if item_id == "item-2"])
    [(_, around)] = glimpses(row).values()
    assert around == ["", "", "", "", "item-0", "item-1", "item-3", "item-4", "", "", "", ""]


def test_two_shoppers_with_the_same_session_id_are_two_sessions() -> None:
    event = click(1, "a", session="s")
    one = increments(empty("u"), apply(empty("u"), event, POLICY), event, POLICY)
    event = event._replace(user_id="v")
    other = increments(empty("v"), apply(empty("v"), event, POLICY), event, POLICY)
    assert one["a"].session != other["a"].session


def test_only_the_newest_sessions_are_remembered() -> None:
    many = signals.GLIMPSES + 9
    new = [Increment("clicks/0", n, NOW_MS + n * 1000, 1.0, session=n + 1) for n in range(many)]
    row = fold(None, new)
    assert row.sessions.tolist() == list(range(many, 9, -1))


def test_a_neighbour_that_was_dropped_is_forgotten_in_glimpses_too() -> None:
    light = Increment("clicks/0", 1, NOW_MS - 300 * DAY_MS, 1.0, [("light", 1.0)], session=1)
    heavy = [(f"heavy-{n}", 2.0) for n in range(signals.MAX_NEIGHBOURS)]
    row = fold(fold(None, [light]), [Increment("clicks/0", 2, NOW_MS, 1.0, heavy, session=2)])
    assert "light" not in row.neighbours
    assert glimpses(row)[1][1] == [""] * (2 * signals.NEAR)


def test_rows_of_long_ids_hold_fewer_neighbours_to_keep_their_size() -> None:
    pairs = [(f"{n:04d}-" + "x" * 60, 1.0) for n in range(signals.MAX_NEIGHBOURS)]
    row = fold(None, [Increment("clicks/0", 1, NOW_MS, 1.0, pairs, session=1)])
    assert 50 < len(row.neighbours) < 120
    assert len(signals.encode(row)) <= signals.MAX_ROW_BYTES


# Views


def test_a_view_holds_the_neighbours_that_the_catalogue_knows() -> None:
    table = ItemTable()
    table.put(Item("other", "OTHER"))
    slot = table.put(Item("known", "KNOWN"))
    row = fold(None, [Increment("clicks/0", 1, NOW_MS, 1.0, forward=[("unknown", 2.0), ("known", 1.0)])])
    seen = signals.view(row, table, 1)
    assert seen.slots.tolist() == [slot]
    assert signals.neighbours_at(seen.forward, NOW_MS)[0] == pytest.approx(1.0, rel=1e-3)
    assert seen.backward.tolist() == [-math.inf]


def test_a_view_tells_glimpses_by_slot() -> None:
    table = ItemTable()
    table.put(Item("other", "OTHER"))
    slot = table.put(Item("known", "KNOWN"))
    pairs = [("unknown", 1.0), ("known", 0.8)]
    seen = signals.view(fold(None, [Increment("clicks/0", 1, NOW_MS, 1.0, pairs, session=3)]), table, 1)
    assert seen.around[0].tolist() == [-1] * 7 + [slot] + [-1] * 4


def _of_life(source: str, offset: int) -> Increment:
    return Increment(source, offset, NOW_MS, 1.0)


def test_a_topic_that_was_made_anew_teaches_from_its_first_offset_on() -> None:
    row = fold(None, [_of_life("clicks/3", 90), _of_life("clicks/4", 90)])
    after = fold(row, [_of_life("clicks/3@1700", 2), _of_life("clicks/3@1700", 2)])
    assert after.applied == {"clicks/3@1700": 2, "clicks/4": 90}
    assert after.popularity[0] == pytest.approx(row.popularity[0] + np.log2(3 / 2))


def test_what_is_redelivered_of_a_topic_that_is_gone_counts_nothing() -> None:
    row = fold(None, [_of_life("clicks/3", 90), _of_life("clicks/3@1700", 2)])
    assert fold(row, [_of_life("clicks/3", 91), _of_life("clicks/3@1600", 5)]) is row
    again = fold(row, [_of_life("clicks/3@1800", 0), _of_life("clicks/3@1700", 9)])
    assert again.applied == {"clicks/3@1800": 0}
