"""A space searches what it collected, and goes over to the index of it without a difference."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from builders import direction, item_vector

from stream.catalog.vector_space import LOADED_AT_ONCE, VectorSpace
from stream.catalog.view import CatalogView
from stream.core.items import FloatArray, IntArray
from stream.core.vectors import COMPARED_AT_ONCE, near_together
from stream.fakes import ExactIndex, WordIndex
from stream.telemetry.metrics import Telemetry


def _nearest(space: VectorSpace, *numbers: int) -> list[int]:
    asked = np.stack([direction(number) for number in numbers])
    return [slots.tolist()[0] for slots, _ in space.search(asked, 1)]


class Held(ExactIndex):
    """One that is loaded only when it is let."""

    let = threading.Event()

    def load(self, slots: IntArray, vectors: FloatArray) -> None:
        assert self.let.wait(60)
        super().load(slots, vectors)


def test_what_was_collected_is_found_before_and_after_its_index_is_made() -> None:
    collected, direct = VectorSpace("1", ExactIndex, collecting=True), VectorSpace("1", ExactIndex)
    count = LOADED_AT_ONCE + 50
    for space in (collected, direct):
        for slot in range(count):
            space.put(slot, direction(slot), findable=slot != 5)
        space.remove(7)
    asked = np.stack([direction(number) for number in (3, 5, 7, count - 1)])

    def same() -> bool:
        pairs = zip(collected.search(asked, 40), direct.search(asked, 40), strict=True)
        return all(
            one[0].tolist() == other[0].tolist() and np.allclose(one[1], other[1], atol=1e-6)
            for one, other in pairs
        )

    assert same()
    asyncio.run(collected.index())
    assert not collected.collecting
    assert same()


def test_what_changes_while_the_index_is_made_is_in_it() -> None:
    space = VectorSpace("1", Held, collecting=True)
    for slot in range(4):
        space.put(slot, direction(slot))

    async def change() -> None:
        making = asyncio.ensure_future(space.index())
        await asyncio.sleep(0)
        space.put(1, direction(11))
        space.put(5_000, direction(12))
        space.remove(2)
        assert _nearest(space, 11, 12, 0) == [1, 5_000, 0]
        Held.let.set()
        await making

    asyncio.run(change())
    assert not space.collecting
    assert _nearest(space, 11, 12, 0, 3) == [1, 5_000, 0, 3]
    assert [slots.tolist() for slots, _ in space.search(direction(0)[None], 9)] != []
    assert 2 not in space.search(direction(2)[None], 9)[0][0].tolist()


def test_a_catalogue_read_at_once_is_searched_by_words_and_vectors_as_soon_as_it_is_settled() -> None:
    view = CatalogView(ExactIndex, WordIndex(), Telemetry(), collecting=True)
    view.apply([("mug", item_vector("mug", vector=direction(1))), ("cup", item_vector("cup"))])
    view.settle()
    slot = view.items.slot("mug")
    assert [slots.tolist() for slots, _ in view.space.search(direction(1)[None], 1)] == [[slot]]
    assert slot in view.matching("mug", 5).slots
    asyncio.run(view.index())
    assert not view.space.collecting
    view.apply([("pot", item_vector("pot", vector=direction(3)))])
    assert view.space.search(direction(3)[None], 1)[0][0].tolist() == [view.items.slot("pot")]


@pytest.mark.parametrize("count", [0, 1, 2, 2 * COMPARED_AT_ONCE + 3])
def test_every_slot_has_its_place_in_the_order_and_near_ones_lie_together(count: int) -> None:
    rng = np.random.default_rng(1)
    group = rng.integers(5, size=count + 7)
    vectors = np.stack([direction(number) for number in range(5)])[group]
    slots = rng.permutation(count + 7)[:count].astype(np.int32)
    ordered = near_together(slots, vectors)
    assert sorted(ordered.tolist()) == sorted(slots.tolist())
    assert np.count_nonzero(np.diff(group[ordered])) <= 50  # one run of each leader at most
