"""Typing errors in searches: a word that no product has is read as the product word one error away.

After Norvig, How to Write a Spelling Corrector (2007): the candidates are all texts at one error's distance,
the most common word among them wins. A word that several products have is never touched.
"""

from __future__ import annotations

import re
from collections import Counter

from stream.core.text import words

MIN_LETTERS = 4
"""Shorter words have too many neighbours."""
MIN_ITEMS = 2
"""A word that one item has may be an error itself, where another is `TIMES` as common."""
TIMES = 30
MIN_ITEMS_NEAR = 3
"""As many items have to have what a word is taken for."""

_LONG = re.compile(rf"[^\W\d_]{{{MIN_LETTERS},}}")
_ALPHABETS = ("abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмнопрстуфхцчшщъыьэюя")


class Vocabulary:
    """The words of a catalogue, and how many items have each."""

    def __init__(self) -> None:
        self._items: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, *texts: str) -> None:
        """Count the words of one more item."""
        self._items.update(set[str]().union(*map(words, texts)))

    def remove(self, *texts: str) -> None:
        """Count those of an item no more."""
        for word in set[str]().union(*map(words, texts)):
            if self._items[word] > 1:
                self._items[word] -= 1
            else:
                del self._items[word]

    def corrected(self, query: str) -> str:
        """Write a query's unknown words as the known ones that they are one error away from, if any."""
        return _LONG.sub(lambda found: self._closest(found[0]), query)

    def _closest(self, word: str) -> str:
        folded = word.casefold()
        own = self._items.get(folded, 0)
        if own >= MIN_ITEMS or self._is_joined(folded) or self._is_plural(folded):
            return word
        enough = max(MIN_ITEMS_NEAR, TIMES * own)
        near = [known for known in _one_error(folded) if self._items.get(known, 0) >= enough]
        return max(near, key=lambda known: (known[0] == folded[0], self._items[known], known), default=word)

    def _is_plural(self, word: str) -> bool:
        return word[-1] == "s" != word[-2] and self._items.get(word[:-1], 0) >= MIN_ITEMS

    def _is_joined(self, word: str) -> bool:
        """Whether it is two known words in one."""
        return any(
            min(self._items.get(word[:place], 0), self._items.get(word[place:], 0)) >= MIN_ITEMS
            for place in range(MIN_LETTERS, len(word) - MIN_LETTERS + 1)
        )


def _one_error(word: str) -> set[str]:
    """All that one letter dropped, doubled, hit beside or swapped makes of a word."""
    alphabet = next((letters for letters in _ALPHABETS if word[0] in letters), "")
    splits = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    return (
        {left + right[1:] for left, right in splits if right}
        | {left + right[1] + right[0] + right[2:] for left, right in splits if len(right) > 1}
        | {left + letter + right[1:] for left, right in splits if right for letter in alphabet}
        | {left + letter + right for left, right in splits for letter in alphabet}
    )
