"""Pairs of texts with how well the right one answers the left one, 0 to 1: graded by people, or made.

Made pairs say little each, but there are many: a query and a product it was made from, offers of the same
product, and what a product is said to be (brand, category, attributes) beside its own or another's text.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from stream.core.quality import stated

MAX_GRADE = 3
SWAPS = ("category", "brand", "text")
"""What of a contradictory product comes from another one."""
FACTS = 2
"""At most so many attributes stand beside brand and category."""
MAX_FACT_CHARS = 24

LEFT_TOKENS = 24


Joined = tuple[NDArray[np.int64], int]
"""Token ids of a pair, and how many of them are of segment 0."""


class Pair(NamedTuple):
    """Two texts, and how well the right one answers the left one."""

    left: str
    right: str
    target: float
    kind: str


class Graded(NamedTuple):
    """A pair that people graded; queries that are much alike share a fold."""

    query: str
    item_id: str
    text: str
    grade: int
    fold: int

    @property
    def target(self) -> float:
        """Return the share of the best gain, (2^grade - 1) / 7, as nDCG weighs grades."""
        return (2.0**self.grade - 1) / (2.0**MAX_GRADE - 1)

    @property
    def pair(self) -> Pair:
        return Pair(self.query, self.text, self.target, "graded")


def read_graded(data: Path) -> list[Graded]:
    """Read graded.parquet, refusing a query in two folds."""
    rows = [Graded(**row) for row in _rows(data, "graded", Graded._fields)]
    folds: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        folds[row.query].add(row.fold)
    shared = sorted(query for query, found in folds.items() if len(found) > 1)
    if shared:
        raise typer.BadParameter(f"{data} has the query {shared[0]!r} in several folds: prepare it anew.")
    return rows


def made(data: Path, split: str, counts: dict[str, int], near_target: float, seed: int) -> list[Pair]:
    """Make pairs of one split of the prepared data.

    Args:
        counts: of pairs by kind: `query`, `same_product`, `fit`; where there are fewer, all there are.
        near_target: of a mined negative, which is close to what was asked for.
    """
    rng = random.Random(seed)
    pairs = []
    for kind in ("query", "same_product"):
        pairs += _some(_contrasts(data, split, kind, near_target, rng), counts.get(kind, 0))
    pairs += _some(_fits(data, split, rng), counts.get("fit", 0))
    rng.shuffle(pairs)
    return pairs


def _contrasts(data: Path, split: str, kind: str, near_target: float, rng: random.Random) -> Iterator[Pair]:
    """Yield a right answer, a near one and one of another query or product, in turn."""
    columns = ("anchor", "positive", "negatives", "group")
    rows = [tuple(row.values()) for row in _rows(data, "pairs", columns, split=split, objective=kind)]
    rng.shuffle(rows)
    for anchor, positive, negatives, group in rows:
        yield Pair(anchor, positive, 1.0, kind)
        if negatives:
            yield Pair(anchor, rng.choice(negatives), near_target, kind)
        other = rng.choice(rows)
        if other[3] != group:
            yield Pair(anchor, other[1], 0.0, kind)


def _fits(data: Path, split: str, rng: random.Random) -> Iterator[Pair]:
    """Yield a product's own statement and text, and one of both with something of another product."""
    columns = ("title", "brand", "category", "attributes", "text")
    rows = [row for row in _rows(data, "products", columns, split=split) if row["category"]]
    rng.shuffle(rows)
    for row in rows:
        facts = _facts(row, rng)
        yield Pair(stated(row["brand"], row["category"], facts), row["text"], 1.0, "fit")
        contradictory = swapped(row, rng.choice(rows), facts, rng)
        if contradictory is not None:
            yield contradictory


def swapped(
    row: dict[str, Any], other: dict[str, Any], facts: Sequence[str], rng: random.Random
) -> Pair | None:
    """Make a contradictory product; None where the other one does not contradict."""
    swap = rng.choice(SWAPS)
    brand, category = row["brand"], row["category"]
    if swap == "brand":
        brand, facts = other["brand"], ()
        if not brand or brand.casefold() in row["text"].casefold():
            return None
    elif other["category"].casefold() == category.casefold() or (
        swap == "category" and other["category"].casefold() in row["text"].casefold()
    ):
        return None
    if swap == "category":
        category, facts = other["category"], ()
    text = other["text"] if swap == "text" else row["text"]
    return Pair(stated(brand, category, facts), text, 0.0, f"fit, other {swap}")


def _rows(data: Path, name: str, columns: Sequence[str], **equal: str) -> list[dict[str, Any]]:
    """Read the rows of a prepared table whose other columns have these values."""
    from pyarrow import ArrowInvalid, parquet

    path = data / f"{name}.parquet"
    filters = [(column, "=", value) for column, value in equal.items()] or None
    try:
        table = parquet.read_table(path, columns=list(columns), filters=filters)
    except (OSError, ArrowInvalid) as error:
        raise typer.BadParameter(
            f"{path} cannot be read: {error}. Make it by `model-factory prepare`."
        ) from None
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def _facts(row: dict[str, Any], rng: random.Random) -> list[str]:
    """Draw attributes of a product, those that are short and not about itself as a parcel."""
    try:
        attributes = json.loads(row["attributes"] or "{}")
    except ValueError:
        return []
    facts = [
        f"{name} {value}" for name, value in attributes.items() if len(f"{name} {value}") <= MAX_FACT_CHARS
    ]
    return rng.sample(facts, min(len(facts), rng.randrange(FACTS + 1)))


def _some(pairs: Iterator[Pair], count: int) -> list[Pair]:
    return [pair for _, pair in zip(range(count), pairs, strict=False)]


class Tokens:
    """Pairs as token ids, `[CLS] left [SEP] right [SEP]`, cut as the served code cuts them.

    Args:
        tokenizer: file `tokenizer.json`.
        max_tokens: of a pair.
    """

    def __init__(self, tokenizer: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._max_tokens = max_tokens
        self._cls, self._sep = (self._tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))

    def join(self, pairs: Sequence[Pair]) -> list[Joined]:
        """Tokenise pairs."""
        texts = [text for pair in pairs for text in (pair.left, pair.right)]
        ids = [found.ids for found in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        joined = []
        for left, right in zip(ids[::2], ids[1::2], strict=True):
            first = [self._cls, *left[:LEFT_TOKENS], self._sep]
            second = [*right[: self._max_tokens - len(first) - 1], self._sep]
            joined.append((np.array(first + second, np.int64), len(first)))
        return joined

    def batch(self, joined: Sequence[Joined]) -> dict[str, Any]:
        """Pad pairs to one batch for `BertForSequenceClassification`."""
        import torch

        shape = (len(joined), max(len(ids) for ids, _ in joined))
        token_ids, segments, mask = (np.zeros(shape, np.int64) for _ in range(3))
        for row, (ids, first) in enumerate(joined):
            token_ids[row, : len(ids)] = ids
            segments[row, first : len(ids)] = 1
            mask[row, : len(ids)] = 1
        names = ("input_ids", "token_type_ids", "attention_mask")
        return {
            name: torch.from_numpy(array)
            for name, array in zip(names, (token_ids, segments, mask), strict=True)
        }
