"""Find hard negatives: texts that look like the positive, by words or to the encoder, and are not it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_factory import served
from model_factory.preparation.pairs import Pair
from model_factory.preparation.sources import Offer, Product
from model_factory.preparation.splits import Split
from model_factory.preparation.wording import terms

NEGATIVES = 4
"""Of each pair; at most half of them from the words, the rest from the encoder."""
LOOKED_AT = 30
"""Best hits of each search from which negatives are taken."""
K1, B = 0.8, 0.75
"""Of BM25: what was best for product search."""
ROWS = 512
"""Compared at once."""

Places = NDArray[np.int64]


class Nearest:
    """The texts nearest to each text, as the encoder sees them; vectors are kept in a folder."""

    def __init__(self, encoder: Path, folder: Path, progress: Callable[[int], None]) -> None:
        self._encoder, self._folder, self._progress = encoder, folder, progress

    def find(self, texts: Sequence[str]) -> Places:
        """Return the places of the nearest other texts, nearest first; shape [texts, up to LOOKED_AT]."""
        vectors = self._vectors(texts)
        count = min(LOOKED_AT, len(texts) - 1)
        found = np.empty((len(texts), count), np.int64)
        for start in range(0, len(texts), ROWS):
            rows = np.arange(start, min(start + ROWS, len(texts)))
            cosine = vectors[rows] @ vectors.T
            cosine[np.arange(len(rows)), rows] = -2.0  # not itself
            near = np.argpartition(-cosine, count - 1, axis=1)[:, :count] if count else found[rows]
            order = np.argsort(-np.take_along_axis(cosine, near, axis=1), axis=1, kind="stable")
            found[rows] = np.take_along_axis(near, order, axis=1)
        return found

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode the texts, or read their vectors where the same encoder has encoded the same before."""
        digest = hashlib.sha256((self._encoder / "model.onnx").read_bytes())
        for text in texts:
            digest.update(text.encode() + b"\0")
        path = self._folder / f"{digest.hexdigest()[:32]}.npy"
        if path.exists():
            return _stored(path)
        encoder = served.load_encoder(self._encoder)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        vectors: NDArray[np.float32] | None = None
        for start in range(0, len(texts), served.BATCH):
            rows = order[start : start + served.BATCH]
            batch = encoder.encode([texts[place] for place in rows])
            if vectors is None:
                vectors = np.empty((len(texts), batch.shape[1]), np.float32)
            vectors[rows] = batch
            self._progress(start + len(rows))
        assert vectors is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished.npy")
        np.save(unfinished, vectors.astype(np.float16))
        unfinished.replace(path)
        return _stored(path)


class Lexical:
    """BM25 over texts (`bm25s`)."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._bm25 = bm25s.BM25(k1=K1, b=B)
        self._bm25.index([list(terms(text)) or ["-"] for text in texts], show_progress=False)
        self._count = min(LOOKED_AT, len(texts))

    def find(self, queries: Iterable[str]) -> dict[str, list[int]]:
        """Return the places of the best texts that share a word with it, for each different query."""
        distinct = list(dict.fromkeys(queries))
        found: dict[str, list[int]] = {}
        for start in range(0, len(distinct), ROWS):
            some = distinct[start : start + ROWS]
            places, scores = self._bm25.retrieve(
                [list(terms(query)) or ["-"] for query in some],
                k=self._count,
                show_progress=False,
                n_threads=0,
            )
            for query, row, values in zip(some, places, scores, strict=True):
                found[query] = [int(place) for place, score in zip(row, values, strict=True) if score > 0]
        return found


def mine_for_products(
    pairs: Sequence[Pair],
    products: Sequence[Product],
    texts: Sequence[str],
    clusters: Sequence[int],
    splits: Sequence[Split],
    nearest: Places | None,
) -> None:
    """Add negatives to pairs whose positive is a product.

    For a query: products of another cluster that lack one of its words, or have them all but are known to be
    of another type ("notebook case" where the query is "notebook"). For a rewording: any other product, since
    products that say the same were dropped. Both are of the pair's split, and come after negatives it has.
    """
    lexical = Lexical(texts)
    hits = lexical.find(pair.group for pair in pairs if pair.objective == "query")
    hits |= lexical.find(pair.anchor for pair in pairs if pair.objective != "query")
    words = [frozenset(terms(text)) for text in texts]
    heads = [_head(product.category) for product in products]
    for pair in pairs:
        positive = _place(pair)
        asked = frozenset(pair.group.split())
        head = heads[positive] if heads[positive] in asked else ""

        def another(
            found: Iterable[int],
            pair: Pair = pair,
            positive: int = positive,
            asked: frozenset[str] = asked,
            head: str = head,
        ) -> list[int]:
            others = [place for place in found if splits[place] == pair.split and place != positive]
            if pair.objective == "same_product":
                return [place for place in others if texts[place] != pair.positive]
            return [
                place
                for place in others
                if clusters[place] != clusters[positive]
                and (not asked <= words[place] or (head and heads[place] and heads[place] != head))
            ]

        by_words = another(hits[pair.group if pair.objective == "query" else pair.anchor])
        by_vector = another([] if nearest is None else nearest[positive].tolist())
        mined = [texts[place] for place in _half_and_half(by_words, by_vector)]
        pair.negatives = [*pair.negatives, *mined][:NEGATIVES]


def mine_for_offers(
    pairs: Sequence[Pair],
    offers: Sequence[Offer],
    nearest: Places | None,
) -> None:
    """Add negatives to pairs whose positive is an offer: offers of the same category, of another cluster.

    Those of the same brand (the first word of the cluster's name) come before others.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for place, offer in enumerate(offers):
        members[offer.category].append(place)
    brands = [offer.label.casefold().split(" ", 1)[0] for offer in offers]
    by_category: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_category[pair.category].append(pair)
    for category, some in by_category.items():
        places = members[category]
        hits = Lexical([offers[place].title for place in places]).find(pair.anchor for pair in some)
        for pair in some:
            positive = _place(pair)

            def another(
                found: Iterable[int], category: str = category, positive: int = positive
            ) -> list[int]:
                others = [
                    place
                    for place in found
                    if offers[place].category == category
                    and offers[place].cluster != offers[positive].cluster
                ]
                own = [place for place in others if brands[place] == brands[positive]]
                return own + [place for place in others if brands[place] != brands[positive]]

            by_words = another(places[hit] for hit in hits[pair.anchor])
            by_vector = another([] if nearest is None else nearest[positive].tolist())
            pair.negatives = [offers[place].title for place in _half_and_half(by_words, by_vector)]


def _half_and_half(by_words: Sequence[int], by_vector: Sequence[int]) -> list[int]:
    """Return the first places of both, without repeats; what one lacks the other fills."""
    half = dict.fromkeys(by_words[: NEGATIVES // 2])
    return list({**half, **dict.fromkeys(by_vector), **dict.fromkeys(by_words)})[:NEGATIVES]


def _place(pair: Pair) -> int:
    if pair.positive_at is None:
        raise ValueError(f"the positive of {pair.anchor!r} has no place")
    return pair.positive_at


def _stored(path: Path) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = np.load(path, allow_pickle=False).astype(np.float32)
    return vectors


def _head(category: str) -> str:
    """The word that says what it is: `case` of `mobile phone case`."""
    found = terms(category.split(" > ")[-1].split("/")[0])
    return found[-1] if found else ""
