"""When two wordings are the same: words folded, plurals cut, order forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from stream.core.text import words

_FILLERS = """
a an and are as at by for from in is it of on or the this that to with w your you our its be can pc pcs
piece pieces set
"""
FILLERS = frozenset(_FILLERS.split())
"""Words that tell nothing of a product."""
EDITED_CHARS = 5
"""From this length on, two queries one typing error apart count as one."""


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """Cut the plural: `batteries` is `battery`, `boxes` is `box`, `glass` stays."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


@lru_cache(maxsize=200_000)
def terms(text: str) -> tuple[str, ...]:
    """Split a text into folded words without plural, numbers glued to their units."""
    return tuple(stem(word) for word in words(text))


def telling(text: str) -> frozenset[str]:
    """The words of a text that say something, without order or number of times."""
    return frozenset(terms(text)) - FILLERS


def key(text: str) -> str:
    """What is the same for wordings that differ in case, plural, order and fillers only."""
    return " ".join(sorted(telling(text) or set(terms(text))))


class Queries:
    """Queries that are kept apart, and what comes too near to them."""

    def __init__(self, queries: Iterable[str]) -> None:
        self._keys: set[str] = set()
        self._glued: set[str] = set()
        self._edited: set[str] = set()
        for query in queries:
            self.add(query)

    def add(self, query: str) -> None:
        """Keep one more query apart."""
        self._keys.add(key(query))
        for glued in _glued(query):
            self._glued.add(glued)
            self._edited.update(_one_less(glued))

    def near(self, query: str) -> bool:
        """Say whether one of the queries has the same words, or the same letters up to a typing error."""
        if key(query) in self._keys:
            return True
        return any(
            glued in self._glued or not self._edited.isdisjoint(_one_less(glued)) for glued in _glued(query)
        )


def groups(queries: Iterable[str]) -> list[list[str]]:
    """Put queries that are near to one another together; the order of the queries is kept."""
    found: list[tuple[Queries, list[str]]] = []
    for query in dict.fromkeys(queries):
        near = [place for place, (apart, _) in enumerate(found) if apart.near(query)]
        if not near:
            found.append((Queries([query]), [query]))
            continue
        apart, members = found[near[0]]
        for place in reversed(near[1:]):
            members.extend(found.pop(place)[1])
        members.append(query)
        for member in members:
            apart.add(member)
    return [members for _, members in found]


def _glued(query: str) -> set[str]:
    """The letters of a query without spaces, as they stand and with the words sorted."""
    found = terms(query)
    return {"".join(found), "".join(sorted(found))}


def _one_less(glued: str) -> set[str]:
    """The text and all that lack one of its letters; texts one typing error apart share one of them.

    Another digit is no typing error: it names another product.
    """
    if len(glued) < EDITED_CHARS:
        return {glued}
    letters = [place for place, character in enumerate(glued) if not character.isdigit()]
    return {glued} | {glued[:place] + glued[place + 1 :] for place in letters}
