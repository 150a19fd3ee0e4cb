"""Words as the lexical search sees them; indexing and querying both go through here.

What helped on the Icecat judgements: gluing a number to its unit ("16 gb" is "16gb") and joining
neighbours ("smart watch" also counts as "smartwatch"). Stemming comes after this, in the index.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

MAX_WORD_CHARS = 40
"""Longer runs of letters and digits are cut: no shopper types them."""

TEXTS_KEPT = 16
"""Texts whose words are remembered: those of one product are asked for twice, by spelling and by search."""

_UNIT = re.compile(
    "[cm]m|km|inch|ft|kg|lb|oz|[cm]l|k?v|k?wh?|mah?|va|[kmg]?hz|db|[kmgt]b|[kmg]bps|dpi|ppm|rpm|mp|px"
)
_SIGNS = str.maketrans(dict.fromkeys("®™©℠", " "))
_INCHES = re.compile(r"(?<=\d)\s?(?:\"|''|′′|”|-?inch(?:es)?\b)", re.IGNORECASE)
_WORD = re.compile(
    r"\d+(?:[.,]\d+)+[a-z]*"  # 43.2 and 1,5 and 3.5mm
    r"|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"  # no spaces there: one word a character
    r"|[^\W_\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)


def words(text: str) -> list[str]:
    """Split a text into folded words: lower case, no accents, numbers glued to their units.

    Anything is accepted; what is neither letter nor digit separates words.
    """
    return list(_words(text))


@lru_cache(TEXTS_KEPT)
def _words(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for word in _WORD.findall(_INCHES.sub(" inch ", _folded(text))):
        if found and found[-1][0].isdigit() and _is_number(found[-1]) and _UNIT.fullmatch(word):
            found[-1] += word
        else:
            found.append(word.replace(",", ".")[:MAX_WORD_CHARS])
    return tuple(found)


def joined(found: Sequence[str]) -> list[str]:
    """Join each word with its right neighbour, except where two numbers would run together."""
    return [
        left + right
        for left, right in itertools.pairwise(found)
        if not (left[-1].isdigit() and right[0].isdigit()) and len(left) + len(right) <= MAX_WORD_CHARS
    ]


def _folded(text: str) -> str:
    """Lower case without accents and signs."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", text.translate(_SIGNS)).casefold()
    folded = "".join(character for character in folded if not unicodedata.combining(character))
    return unicodedata.normalize("NFC", folded)


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdigit()
