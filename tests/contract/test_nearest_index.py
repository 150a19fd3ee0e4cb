"""What every index of nearest vectors promises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from builders import direction

from stream.adapters.usearch_index import UsearchIndex
from stream.core.items import DIMENSIONS, FloatArray
from stream.fakes import ExactIndex
from stream.ports import NearestIndex

INDEXES = [ExactIndex, UsearchIndex]
NEARLY = 5e-3
"""An index may keep its vectors as bytes."""


@pytest.fixture(params=INDEXES, ids=lambda kind: kind.__name__)
def index(request: pytest.FixtureRequest) -> NearestIndex:
    make: Callable[[], NearestIndex] = request.param
    return make()


def _near(vector: FloatArray, share: float, number: int) -> FloatArray:
    mixed = share * vector + (1 - share) * direction(number)
    unit: FloatArray = (mixed / np.linalg.norm(mixed)).astype(np.float32)
    return unit


def _fill(index: NearestIndex, count: int) -> FloatArray:
    vectors = np.stack([direction(number) for number in range(count)])
    for slot, vector in enumerate(vectors):
        index.put(slot, vector)
    return vectors


def test_an_empty_index_finds_nothing_for_every_vector(index: NearestIndex) -> None:
    found = index.search(np.stack([direction(1), direction(2)]), 5)
    assert [(len(slots), len(cosines)) for slots, cosines in found] == [(0, 0), (0, 0)]


def test_nothing_asked_nothing_found(index: NearestIndex) -> None:
    _fill(index, 3)
    assert index.search(np.zeros((0, DIMENSIONS), np.float32), 5) == []


def test_the_nearest_come_first_with_their_cosines(index: NearestIndex) -> None:
    wanted = direction(0)
    vectors = {slot: _near(wanted, share, slot + 10) for slot, share in enumerate((0.3, 0.9, 0.6))}
    for slot, vector in vectors.items():
        index.put(slot, vector)
    [(slots, cosines)] = index.search(wanted[None], 3)
    assert slots.tolist() == [1, 2, 0]
    assert slots.dtype == np.int32
    assert cosines.dtype == np.float32
    expected = [float(vectors[slot] @ wanted) for slot in (1, 2, 0)]
    np.testing.assert_allclose(cosines, expected, atol=NEARLY)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_every_row_is_answered_by_itself(index: NearestIndex, rows: int) -> None:
    vectors = _fill(index, 50)
    found = index.search(vectors[:rows], 3)
    assert [int(slots[0]) for slots, _ in found] == list(range(rows))
    assert all(len(slots) == len(cosines) == 3 for slots, cosines in found)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_at_most_as_many_as_asked_and_as_there_are(index: NearestIndex, limit: int, rows: int) -> None:
    vectors = _fill(index, 5)
    for slots, cosines in index.search(vectors[:rows], limit):
        assert len(slots) == len(cosines) == min(limit, 5)
        assert len(set(slots.tolist())) == len(slots)
        assert (np.diff(cosines) <= 0).all()


def test_a_single_vector_is_found(index: NearestIndex) -> None:
    index.put(7, direction(7))
    [(slots, cosines)] = index.search(direction(7)[None], 10)
    assert slots.tolist() == [7]
    np.testing.assert_allclose(cosines, [1.0], atol=NEARLY)


def test_a_replaced_vector_counts_and_the_old_one_does_not(index: NearestIndex) -> None:
    _fill(index, 20)
    index.put(3, direction(99))
    [(slots, cosines)] = index.search(direction(99)[None], 20)
    assert slots[0] == 3
    assert slots.tolist().count(3) == 1
    [(slots, cosines)] = index.search(direction(3)[None], 1)
    assert cosines[0] < 0.5


def test_a_removed_slot_is_not_found(index: NearestIndex) -> None:
    vectors = _fill(index, 20)
    index.remove(3)
    [(slots, _)] = index.search(vectors[3][None], 20)
    assert sorted(slots.tolist()) == [slot for slot in range(20) if slot != 3]


def test_removing_what_is_not_there_does_nothing(index: NearestIndex) -> None:
    index.remove(3)
    _fill(index, 3)
    index.remove(99)
    assert len(index.search(direction(1)[None], 9)[0][0]) == 3


def test_a_slot_may_be_used_again(index: NearestIndex) -> None:
    _fill(index, 5)
    index.remove(2)
    index.put(2, direction(77))
    [(slots, cosines)] = index.search(direction(77)[None], 1)
    assert slots.tolist() == [2]
    np.testing.assert_allclose(cosines, [1.0], atol=NEARLY)


def test_an_index_emptied_again_finds_nothing(index: NearestIndex) -> None:
    vectors = _fill(index, 5)
    for slot in range(5):
        index.remove(slot)
    assert [len(slots) for slots, _ in index.search(vectors[:2], 3)] == [0, 0]
    index.put(0, vectors[0])
    assert index.search(vectors[:1], 3)[0][0].tolist() == [0]


def test_many_changes_leave_every_slot_findable_once(index: NearestIndex) -> None:
    draw = np.random.default_rng(5)
    now: dict[int, int] = {}
    for step in range(600):
        slot = int(draw.integers(60))
        if draw.random() < 0.3:
            index.remove(slot)
            now.pop(slot, None)
        else:
            index.put(slot, direction(step))
            now[slot] = step
    [(slots, _)] = index.search(direction(1)[None], 100)
    assert sorted(slots.tolist()) == sorted(now)
    for slot, number in list(now.items())[:20]:
        [(slots, cosines)] = index.search(direction(number)[None], 1)
        assert slots.tolist() == [slot]
        assert cosines[0] > 0.99


def test_what_is_put_is_copied(index: NearestIndex) -> None:
    vector = direction(1).copy()
    index.put(1, vector)
    vector[:] = 0
    np.testing.assert_allclose(index.search(direction(1)[None], 1)[0][1], [1.0], atol=NEARLY)


def test_what_is_loaded_at_once_is_found_and_can_be_replaced_and_removed(index: NearestIndex) -> None:
    vectors = np.stack([direction(number) for number in range(6)])
    index.load(np.array([4, 9, 2], np.int32), vectors[:3])
    index.load(np.array([7], np.int32), vectors[3:4])
    index.put(9, vectors[4])
    index.remove(2)
    found = [slots.tolist()[0] for slots, _ in index.search(vectors[[0, 3, 4]], 1)]
    assert found == [4, 7, 9]
    [(slots, _)] = index.search(vectors[:1], 9)
    assert set(slots.tolist()) == {4, 7, 9}


def test_usearch_finds_nearly_all_that_comparing_with_every_vector_finds() -> None:
    exact, graph = ExactIndex(), UsearchIndex()
    for index in (exact, graph):
        _fill(index, 2_000)
    asked = np.stack([direction(number) for number in range(5_000, 5_030)])
    shared = [
        len(set(one[0].tolist()) & set(other[0].tolist()))
        for one, other in zip(exact.search(asked, 20), graph.search(asked, 20), strict=True)
    ]
    assert sum(shared) / (30 * 20) > 0.6  # random directions are the hardest there are
