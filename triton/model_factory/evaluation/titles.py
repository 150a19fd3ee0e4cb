"""How alike two titles are by their letters alone: cosines of weighted bags of words and parts of words.

What tells two products apart is written in few, rare words: model numbers, sizes, the number behind a name.
Shops write them with and without spaces and with endings of their own ("LC 55CUG8362", "LC-55CUG8362KS").
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from stream.core.text import words

SHORTEST_PART = 5
MOST_JOINED = 3
IDF_POWER = 3.0
KINDS = {"": 1.0, "plain": 0.5, "prefix": 0.7, "pair": 0.5}
"""Weights of what a title is made of, beside words with digits; chosen on categories taken in turns."""

SAME_AMOUNT = 0.05
"""Shops round: 24.2 megapixels are 24."""

DISAGREEING = 0.5
"""What is left of the likeness of titles that name other amounts of one unit."""

_PREFIX, _PAIR = "^", "_"  # no word has them
_FREQUENT = 0.02

Scores = NDArray[np.float32]


class TfIdf:
    """Cosines of bags of words, each word weighted by its count and its smoothed idf over all bags.

    Args:
        bags: the words of each text; an empty one is like nothing.
        power: of the idf, ln((1 + bags) / (1 + bags with the word)) + 1.
        weight: of a word, beside that.
    """

    def __init__(
        self,
        bags: Iterable[Sequence[str]],
        power: float = 1.0,
        weight: Callable[[str], float] = lambda _: 1.0,
    ) -> None:
        numbers: dict[str, int] = {}
        counted = [
            {numbers.setdefault(word, len(numbers)): count for word, count in Counter(bag).items()}
            for bag in bags
        ]
        self._size = len(counted)
        lengths = np.array([len(bag) for bag in counted], np.intp)
        self._ends = np.cumsum(lengths)
        self._words = np.fromiter(itertools.chain.from_iterable(counted), np.intp, lengths.sum())
        counts = np.fromiter(
            itertools.chain.from_iterable(bag.values() for bag in counted), np.float64, lengths.sum()
        )
        bags_with = np.bincount(self._words, minlength=len(numbers))
        idf = (np.log((1 + self._size) / (1 + bags_with)) + 1) ** power
        values = counts * (idf * [weight(word) for word in numbers])[self._words]
        rows = np.repeat(np.arange(self._size), lengths)
        norms = np.sqrt(np.bincount(rows, weights=values**2, minlength=self._size))
        self._values = (values / norms[rows]).astype(np.float32)
        by_word = np.argsort(self._words, kind="stable")
        ends = np.cumsum(bags_with)[:-1]
        self._bags_with = np.split(rows[by_word], ends)
        self._values_with = np.split(self._values[by_word], ends)
        # Words that very many have are multiplied as a matrix, which is far quicker than one by one.
        self._column = np.full(len(numbers), -1)
        frequent = np.flatnonzero(bags_with > _FREQUENT * self._size)
        self._column[frequent] = np.arange(len(frequent))
        self._dense = np.zeros((len(frequent), self._size), np.float32)
        for column, word in enumerate(frequent):
            self._dense[column, self._bags_with[word]] = self._values_with[word]

    def scores(self, places: NDArray[np.intp]) -> Scores:
        """Score all bags, themselves too, by their cosine with some of them; shape [places, bags]."""
        scores = self._dense[:, places].T @ self._dense
        for row, place in zip(scores, places.tolist(), strict=True):
            start = self._ends[place - 1] if place else 0
            for at in range(start, self._ends[place]):
                word = self._words[at]
                if self._column[word] < 0:
                    row[self._bags_with[word]] += self._values[at] * self._values_with[word]
        return scores


def plain_words(title: str) -> list[str]:
    """Split into lower-case words of two letters or digits and more, as most TF-IDF does."""
    return re.findall(r"\w\w+", title.lower())


def characters(title: str) -> list[str]:
    """Cut every word, with a space at either end, into runs of three to five characters."""
    found = []
    for word in title.lower().split():
        padded = f" {word} "
        for length in (3, 4, 5):
            found += [padded[at : at + length] for at in range(max(1, len(padded) - length + 1))]
    return found


class Likeness:
    """Cosines of titles by words, where a rare word with digits says most, less where amounts disagree.

    Beside its words, a title holds: neighbours that another title writes as one word, and what another title
    writes alone of a word with digits; the beginnings of words with digits; pairs of neighbours of which one
    has a digit ("nova 2"). The idf counts cubed.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        split = [words(title) for title in titles]
        written = {word for found in split for word in found}
        self._cosines = TfIdf((_parts(found, written) for found in split), IDF_POWER, _weight)
        self._amounts = [_amounts(found) for found in split]
        having: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for place, amounts in enumerate(self._amounts):
            for unit, amount in amounts:
                having[unit].append((place, amount))
        self._having = {unit: _columns(found) for unit, found in having.items()}

    def scores(self, places: NDArray[np.intp]) -> Scores:
        """Score all titles, themselves too, by how alike they are to some of them; shape [places, titles]."""
        scores = self._cosines.scores(places)
        for row, place in zip(scores, places.tolist(), strict=True):
            amounts = self._amounts[place]
            for unit in {unit for unit, _ in amounts}:
                titles, others = self._having[unit]
                own = np.array([amount for named, amount in amounts if named == unit])
                near = np.abs(others[:, None] - own) <= SAME_AMOUNT * own
                row[np.setdiff1d(titles, titles[near.any(axis=1)])] *= DISAGREEING
        return scores


def _parts(found: Sequence[str], written: set[str]) -> list[str]:
    joined = [
        together
        for length in range(2, MOST_JOINED + 1)
        for at in range(len(found) - length + 1)
        if (together := "".join(found[at : at + length])) in written
    ]
    models = [word for word in found if _has_digit(word)]
    inside = [part for word in models for part in _inside(word) if part in written]
    prefixes = [
        _PREFIX + word[:length]
        for word in (*models, *filter(_has_digit, joined))
        for length in range(SHORTEST_PART, len(word))
    ]
    pairs = [
        left + _PAIR + right
        for left, right in itertools.pairwise(found)
        if _has_digit(left) or _has_digit(right)
    ]
    return [*found, *joined, *inside, *prefixes, *pairs]


def _inside(word: str) -> set[str]:
    return {
        part
        for start in range(len(word) - SHORTEST_PART + 1)
        for end in range(start + SHORTEST_PART, len(word) + 1)
        if _has_digit(part := word[start:end]) and part != word
    }


def _amounts(found: Sequence[str]) -> list[tuple[str, float]]:
    """Return units and amounts: "64gb" and "7th", and "800d" too."""
    return [
        (match[2], float(match[1]))
        for word in found
        if (match := re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]{1,4})", word))
    ]


def _columns(found: Sequence[tuple[int, float]]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    places, amounts = zip(*found, strict=True)
    return np.array(places, np.intp), np.array(amounts)


def _weight(part: str) -> float:
    if part.startswith(_PREFIX):
        return KINDS["prefix"]
    if _PAIR in part:
        return KINDS["pair"]
    return KINDS["" if _has_digit(part) else "plain"]


def _has_digit(word: str) -> bool:
    return any(character.isdigit() for character in word)
