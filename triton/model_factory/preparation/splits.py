"""Keep apart what models are judged on: by cluster, by query, by category and by time."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from model_factory.preparation.wording import groups

Split = Literal["train", "validation", "test"]
FOLDS = 5

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Shares:
    """Which share of the clusters, queries and baskets is kept for validation and for the test."""

    validation: float = 0.05
    test: float = 0.05

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise ValueError(f"shares {self.validation} and {self.test} leave nothing to train on")


def by_key(name: str, shares: Shares, seed: int) -> Split:
    """Choose a split by the hash of a name, so that it does not depend on what else there is."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < shares.test:
        return "test"
    return "validation" if place < shares.test + shares.validation else "train"


def by_time(ordered: Sequence[T], shares: Shares) -> dict[T, Split]:
    """Keep the last ones for the test and those before them for validation; `ordered` is by time."""
    test_from = round(len(ordered) * (1 - shares.test))
    validation_from = round(len(ordered) * (1 - shares.test - shares.validation))
    return {
        item: "test" if place >= test_from else "validation" if place >= validation_from else "train"
        for place, item in enumerate(ordered)
    }


def by_category(
    clusters: Mapping[str, set[str]], validation: Sequence[str], test: Sequence[str]
) -> dict[str, Split]:
    """Choose the split of each product cluster from the categories of its offers.

    A cluster in several categories goes where it is kept furthest apart: test before validation before train.
    """
    return {
        cluster: "test"
        if categories & set(test)
        else "validation"
        if categories & set(validation)
        else "train"
        for cluster, categories in clusters.items()
    }


def folds(queries: Mapping[str, int], seed: int) -> dict[str, int]:
    """Spread queries with their number of judgements over five folds of much the same size.

    Queries near to one another are in one fold.
    """
    together = groups(sorted(queries))
    random.Random(seed).shuffle(together)
    together.sort(key=lambda members: -sum(queries[query] for query in members))
    sizes = [0] * FOLDS
    chosen: dict[str, int] = {}
    for members in together:
        fold = sizes.index(min(sizes))
        sizes[fold] += sum(queries[query] for query in members)
        chosen.update(dict.fromkeys(members, fold))
    return chosen
