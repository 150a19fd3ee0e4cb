"""A state survives being written and read, takes little room, and damage is noticed."""

from __future__ import annotations

import contextlib
import random
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.codec import UnreadableState, decode, encode
from stream.core.state import Interaction, Owned, Search, UserState, empty

AT_MS = 1_790_000_000_000

_ids = st.text(min_size=1, max_size=12).filter(lambda text: "\x00" not in text) | st.sampled_from(
    ["a\nb", "a\\nb", "\\", "\n", "\\\\n", "\\\n\\", "カップ", "🛒", "a b", "85123A"]
)
_times = st.integers(0, 253_402_300_799_999)
_interactions = st.builds(
    Interaction, _times, _ids, st.integers(0, 4), st.integers(0, 0xFFFF), st.integers(1, 0xFFFFFF)
)
_states = st.builds(
    lambda user_id, sequence, interactions, searches, owned: UserState(
        user_id,
        sequence,
        tuple(sorted(interactions)),
        tuple(sorted(searches)),
        tuple(sorted(owned)),
    ),
    _ids,
    st.integers(0, 2**64 - 1),
    st.lists(_interactions, max_size=20),
    st.lists(
        st.builds(Search, _times, st.text(min_size=1, max_size=40), st.integers(1, 0xFFFFFF)), max_size=5
    ),
    st.lists(st.builds(Owned, _times, _ids), max_size=20),
)


@settings(max_examples=200)
@given(_states)
def test_a_state_is_read_as_it_was_written(state: UserState) -> None:
    assert decode(state.user_id, encode(state)) == state


def test_more_than_256_items_are_read_as_they_were_written() -> None:
    state = empty("ann")._replace(owned=tuple(Owned(AT_MS + n, f"item {n}") for n in range(300)))
    assert decode("ann", encode(state)) == state


GOLDEN = (
    UserState(
        "ann",
        1_790_000_000_001,
        (
            Interaction(AT_MS - 60_000, "85123A", 0, 7, 11),
            Interaction(AT_MS - 30_000, "71053", 2, 7, 12),
            Interaction(AT_MS, "85123A", 4, 0, 13),
        ),
        (Search(AT_MS - 45_000, "white lantern", 14),),
        (Owned(AT_MS, "85123A"),),
    ),
    "01000001a0c4506c019bb2c6c2d4d0c8d891cbdcd0c0d478eae4f30c0c8c0b8ef8372e385b6a00444798191819"
    "800413cb14762606c6239c0c0cdc0c0c3c0c0cbc93274295eeb198b8b63c23b32455212731af24b5286f22df24"
    "a85c400ec311460600",
)


def test_the_bytes_of_version_1_are_read_for_ever() -> None:
    state, golden = GOLDEN
    assert decode("ann", bytes.fromhex(golden)) == state
    assert bytes.fromhex(golden)[:9] == b"\x01" + state.sequence.to_bytes(8, "big")


def _typical(seed: int) -> UserState:
    """50 interactions with ids like stock numbers over several sessions, 5 searches, 10 bought."""
    draw = random.Random(seed)
    at_ms = AT_MS
    interactions = []
    for n in range(50):
        at_ms += draw.choice([2_000, 15_000, 40_000, 7_200_000]) + draw.randrange(20_000)
        item_id = f"{draw.randrange(10_000, 99_999)}{draw.choice(['', '', 'A', 'B'])}"
        interactions.append(
            Interaction(
                at_ms, item_id, draw.choice([0, 0, 0, 1, 2, 4]), 1 + n // 8, draw.randrange(1, 1 << 24)
            )
        )
    return UserState(
        f"user-{seed}",
        AT_MS,
        tuple(interactions),
        tuple(Search(AT_MS + n, f"white hanging lantern {n}", draw.randrange(1 << 24)) for n in range(5)),
        tuple(Owned(i.at_ms, i.item_id) for i in interactions if i.kind == 4),
    )


def test_fifty_interactions_take_less_than_1000_bytes() -> None:
    sizes = [len(encode(_typical(seed))) for seed in range(20)]
    assert max(sizes) < 1_000


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x03" + bytes(20), b"\x01", b"\x01" + bytes(8)])
def test_what_no_version_wrote_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableState):
        decode("ann", data)


@given(st.binary(max_size=60))
def test_random_bytes_are_unreadable_or_a_state(data: bytes) -> None:
    with contextlib.suppress(UnreadableState):
        assert decode("ann", b"\x01" + data).user_id == "ann"


@settings(max_examples=300)
@given(st.integers(0, 19), st.data())
def test_damaged_bytes_are_unreadable_or_a_state(seed: int, data: st.DataObject) -> None:
    good = encode(_typical(seed))
    place = data.draw(st.integers(0, len(good) - 1))
    damaged = good[:place] + data.draw(st.binary(max_size=3)) + good[place + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(UnreadableState):
        _check_types(decode("ann", damaged))


@settings(max_examples=300)
@given(st.integers(0, 3), st.data())
def test_damage_under_the_compression_is_unreadable_or_a_state(seed: int, data: st.DataObject) -> None:
    good = encode(_typical(seed))
    body = zlib.decompress(good[9:], wbits=-15)
    place = data.draw(st.integers(0, len(body) - 1))
    body = body[:place] + data.draw(st.binary(max_size=3)) + body[place + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(UnreadableState):
        _check_types(decode("ann", good[:9] + zlib.compress(body, wbits=-15)))


MARKED = UserState("ann", 1_790_000_000_001, erased_ms=1_790_000_000_000, marked_until_ms=1_793_000_000_000)
MARKED_BYTES = "02000001a0c4506c019bba60ea84230c471880c4e40913264c02d293ce3330302e381290c300622c2c5738c50000"


def test_the_bytes_of_version_2_are_read_for_ever() -> None:
    assert encode(MARKED).hex() == MARKED_BYTES
    assert decode("ann", bytes.fromhex(MARKED_BYTES)) == MARKED


def test_a_state_without_a_mark_is_written_so_that_earlier_releases_read_it() -> None:
    assert encode(_typical(1))[0] == 1


def test_a_truncated_state_is_unreadable() -> None:
    good = encode(_typical(1))
    for length in range(len(good)):
        with pytest.raises(UnreadableState):
            decode("ann", good[:length])


def test_a_damaged_run_length_does_not_eat_the_memory() -> None:
    at = [AT_MS]
    body = msgspec.msgpack.encode(
        ["mug", [at, b"\x00", b"\x00", [7, 2**60], b"\x00\x00\x01"], [[], [], []], [[], b""]]
    )
    with pytest.raises(UnreadableState):
        decode("ann", b"\x01" + bytes(8) + zlib.compress(body, wbits=-15))


def _check_types(state: UserState) -> None:
    for i in state.interactions:
        assert [type(field) for field in i] == [int, str, int, int, int]
        assert i.event_type
    for s in state.searches:
        assert [type(field) for field in s] == [int, str, int]
    for o in state.owned:
        assert [type(field) for field in o] == [int, str]
