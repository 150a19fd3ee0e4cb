"""Words as the lexical search sees them; indexing and querying both go through here.

What helped on the Icecat judgements: gluing a number to its unit ("16 gb" is "16gb") and joining
neighbours ("smart watch" also counts as "smartwatch"). Stemming comes after this, in the index.
"""

from __future__ import annotations

import itertools
import operator
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
_DIGIT = re.compile(r"\d")
_SPACES = str.maketrans({character: " " for character in map(chr, range(128)) if not character.isalnum()})
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
    folded = _folded(text)
    if not _DIGIT.search(folded):
        found = folded.translate(_SPACES).split() if folded.isascii() else _WORD.findall(folded)
    else:
        found = _WORD.findall(_INCHES.sub(" inch ", folded))
    return tuple([word[:MAX_WORD_CHARS] for word in found] if _are_letters(found) else _with_units(found))


def _with_units(found: Sequence[str]) -> list[str]:
    """Glue numbers to the units after them, and write decimal commas as points."""
    glued: list[str] = []
    after_number = False
    for word in found:
        if after_number and _UNIT.fullmatch(word):
            glued[-1] += word
            after_number = False
        else:
            glued.append(word.replace(",", ".")[:MAX_WORD_CHARS])
            after_number = _is_number(glued[-1])
    return glued


def joined(found: Sequence[str]) -> list[str]:
    """Join each word with its right neighbour, except where two numbers would run together."""
    if _are_letters(found) and len(max(found, key=len)) <= MAX_WORD_CHARS // 2:
        return list(map(operator.add, found, itertools.islice(found, 1, None)))
    return [
        left + right
        for left, right in itertools.pairwise(found)
        if not (left[-1].isdigit() and right[0].isdigit()) and len(left) + len(right) <= MAX_WORD_CHARS
    ]


def _are_letters(found: Sequence[str]) -> bool:
    """Whether all words are letters and nothing else, as most texts are: no numbers, no units."""
    return "".join(found).isalpha()


def _folded(text: str) -> str:
    """Lower case without accents and signs."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", text.translate(_SIGNS)).casefold()
    folded = "".join(character for character in folded if not unicodedata.combining(character))
    return unicodedata.normalize("NFC", folded)


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdigit()
