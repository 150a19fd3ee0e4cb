"""Whatever breaks at whatever step, in any order: nothing is lost, doubled or made up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import pytest
from builders import item_vector
from faults.referee import judge
from faults.shoppers import catalogue
from faults.story import tell
from simulation import World

from stream.fakes import HashEncoder
from stream.ports import ItemVector

SEEDS = range(int(os.environ.get("STREAMREC_TEST_SEEDS", "3")))
"""More of them find more: docs/faults.md says how many were tried."""
KINDS = ("kill", "zombie", "error", "older-redis", "empty-redis")


@pytest.fixture(scope="module")
def items() -> Sequence[ItemVector]:
    """The catalogue of the shop, with vectors."""
    found = catalogue(12)
    titles = [one["title"] for one in found]
    vectors, _ = asyncio.run(HashEncoder().encode(titles, 1.0))
    return [
        item_vector(one["item_id"], title, vector=vector)
        for one, title, vector in zip(found, titles, vectors, strict=True)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_faults_at_random_steps_make_no_difference(seed: int, items: Sequence[ItemVector]) -> None:
    world = World(seed, items, KINDS)
    evidence = asyncio.run(world.run(events=120, faults=20))
    verdict = judge(evidence)
    assert verdict.differences == [], "\n".join(tell(verdict, evidence))
    assert world.incidents
    assert world.errors
    assert evidence.lists
    assert evidence.increments
