"""How likely letters follow one another in words: what random keys give away in any Latin script.

The table was made once, of the words with four letters or more in the titles and descriptions of Open Icecat
and in the titles of PriceRunner's offers, each word weighed by the root of its count up to 20.
"""

from __future__ import annotations

from collections.abc import Iterable

_FOLLOWS = """
13440030201545030545221020 62205101500602530530401020 52105106304401600415300010 42227132600210410441411220
41443320200435020654011300 50015401600511500613401000 52017014400403400521300010 62236000500311500324312020
31534230000436430344030100 50017000400103510001603001 34236002510302520353311210 51137000601500510033400020
64006200600030540021300000 41356150403102300046220000 21320220002546430544423100 50005004400500531633300010
01110303000301300000834000 52236121501122510234200020 31415104501230440046301020 50206104600100510533201030
32322221302545040554000200 51008000600000510021000010 62046104500042400331102000 21535331500011340125422520
34335112302533450162003201 50007012302300501100301333
"""
"""A row for each letter from a to z: 9 + 1.25 log2 of the chance of each next letter, as a digit."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LIKELY = {
    first + second: int(digit)
    for first, row in zip(_LETTERS, _FOLLOWS.split(), strict=True)
    for second, digit in zip(_LETTERS, row, strict=True)
}
MIN_LETTERS = 4


def likely(words: Iterable[str]) -> tuple[float, int]:
    """Mean of the table over the pairs of letters in folded words, and how many words that is of.

    Words with other characters than a to z, and short ones, are left out. Product texts have 4 to 5, random
    letters 2.
    """
    total = pairs = count = 0
    for word in words:
        if len(word) >= MIN_LETTERS and word.isascii() and word.isalpha():
            count += 1
            pairs += len(word) - 1
            total += sum(_LIKELY[word[place : place + 2]] for place in range(len(word) - 1))
    return (total / pairs if pairs else 0.0), count
