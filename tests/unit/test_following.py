"""What followed a list: the next new item of the same session, known when that has ended."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core import following as module
from stream.core.following import AFTER_ALL, Followed, Following, Touch

GAP = 1_000


def shop(*touches: tuple[str, int, int, str]) -> Following:
    """A partition in which shoppers touched items: user, time, offset, item."""
    following = Following(GAP)
    for user, at_ms, offset, item in touches:
        following.touched(0, user, at_ms, offset, (item,))
    return following


ANN = (("ann", 100, 0, "mug"), ("ann", 200, 1, "cup"), ("ann", 300, 2, "mug"), ("ann", 400, 3, "pot"))
LATER = ("bob", 5_000, 9, "tin")


@pytest.mark.parametrize(
    ("offset", "at_ms", "item"), [(0, 100, "cup"), (1, 200, "pot"), (2, 300, "pot"), (3, 400, None)]
)
def test_the_next_item_that_the_session_had_not_shown_follows_a_list(
    offset: int, at_ms: int, item: str | None
) -> None:
    assert shop(*ANN, LATER).after(0, "ann", at_ms, offset) == Followed(item)


def test_nothing_is_said_before_the_session_has_ended() -> None:
    following = shop(*ANN)
    assert following.after(0, "ann", 100, 0) is None
    following.touched(0, "bob", 400 + GAP - 1, 4, ("tin",))
    assert following.after(0, "ann", 100, 0) is None
    following.touched(0, "bob", 400 + GAP, 5, ("tin",))
    assert following.after(0, "ann", 100, 0) == Followed("cup")


def test_time_goes_on_with_events_that_touch_nothing() -> None:
    following = shop(*ANN)
    following.touched(0, "bob", 5_000, 4, ())
    assert following.after(0, "ann", 400, 3) == Followed(None)


def test_partitions_have_clocks_of_their_own() -> None:
    following = shop(*ANN)
    following.touched(1, "bob", 5_000, 4, ("tin",))
    assert following.after(0, "ann", 400, 3) is None


def test_what_comes_after_a_pause_is_another_session() -> None:
    following = shop(("ann", 100, 0, "mug"), ("ann", 101 + GAP, 1, "cup"), LATER)
    assert following.after(0, "ann", 100, 0) == Followed(None)


def test_an_item_of_a_session_before_the_pause_is_new_again() -> None:
    following = shop(("ann", 100, 0, "mug"), ("ann", 2_000, 1, "cup"), ("ann", 2_100, 2, "mug"), LATER)
    assert following.after(0, "ann", 2_000, 1) == Followed("mug")


def test_another_session_id_parts_sessions_without_a_pause() -> None:
    following = Following(GAP)
    for offset, (item, session) in enumerate([("mug", "a"), ("cup", "a"), ("pot", "b")]):
        following.touched(0, "ann", 100 + offset, offset, (item,), session)
    following.touched(0, "bob", 9_000, 9, ())
    assert following.after(0, "ann", 100, 0) == Followed("cup")
    assert following.after(0, "ann", 101, 1) == Followed(None)


def test_a_list_of_a_search_is_followed_by_what_comes_after_its_time() -> None:
    assert shop(*ANN, LATER).after(0, "ann", 250, AFTER_ALL) == Followed("pot")
    assert shop(LATER).after(0, "ann", 250, AFTER_ALL) == Followed(None)


def test_items_of_one_event_are_not_what_follows_it() -> None:
    following = Following(GAP)
    following.touched(0, "ann", 100, 0, ("mug", "cup"))
    following.touched(0, "ann", 100, 1, ("cup", "pot"))
    following.touched(0, "bob", 9_000, 9, ())
    assert following.after(0, "ann", 100, 0) == Followed("pot")


def test_a_session_without_end_does_not_hold_up_a_list_for_ever() -> None:
    following = Following(GAP)
    for offset, at_ms in enumerate(range(0, 2 * GAP + 1, 100)):
        assert following.after(0, "ann", 0, 0) is None
        following.touched(0, "ann", at_ms, offset, ("mug",))
    assert following.after(0, "ann", 0, 0) == Followed(None)


def test_an_event_that_comes_again_changes_nothing() -> None:
    assert shop(*ANN, *ANN, LATER).state() == shop(*ANN, LATER).state()


@given(st.data())
def test_answers_do_not_hang_on_how_shoppers_are_interleaved(data: st.DataObject) -> None:
    users = ("ann", "bob", "cid")
    events = data.draw(st.lists(st.tuples(st.sampled_from(users), st.integers(0, 6), st.integers(0, 900))))
    at = list(itertools.accumulate(pause for _, _, pause in events))
    touches = [(user, at[n], n, f"item-{item}") for n, (user, item, _) in enumerate(events)]
    whole = shop(*touches, ("end", 10**8, 10**6, "x"))
    for user, at_ms, offset, _ in touches:
        alone = shop(*(one for one in touches if one[0] == user), ("end", 10**8, 10**6, "x"))
        assert alone.after(0, user, at_ms, offset) == whole.after(0, user, at_ms, offset)


def test_what_is_known_survives_as_bytes() -> None:
    following = shop(*ANN, LATER)
    kept = msgspec.msgpack.encode(following.state())
    again = Following(GAP)
    again.restore(msgspec.msgpack.decode(kept, type=list[tuple[int, int, list[tuple[str, list[Touch]]]]]))
    assert again.state() == following.state()
    assert again.after(0, "ann", 200, 1) == Followed("pot")


def test_only_shoppers_who_were_not_seen_lately_are_forgotten() -> None:
    following = shop(*ANN, LATER)
    following.forget(0, 401)
    assert [user for user, _ in following.state()[0][2]] == ["bob"]


def test_who_touched_nothing_for_a_week_is_forgotten_where_no_list_waits() -> None:
    following = shop(*ANN)
    following.touched(0, "bob", 401 + module.KEPT_MS, 9, ("tin",))
    following.forget_idle(lambda partition: True)
    assert len(following.state()[0][2]) == 2
    following.forget_idle(lambda partition: False)
    assert [user for user, _ in following.state()[0][2]] == ["bob"]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOPPERS_KEPT", 10)
    monkeypatch.setattr(module, "TOUCHES_KEPT", 5)
    following = Following(GAP)
    for offset in range(300):
        following.touched(0, f"user-{offset % 30}", offset, offset, (f"item-{offset}",))
    [(_, _, shoppers)] = following.state()
    assert len(shoppers) == 10
    assert max(len(touches) for _, touches in shoppers) <= 5
