"""Write the same in other words, as shoppers and shops do. Pure: the same generator, the same text."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
TYPED_CHARS = 4
"""Shorter words, and those with digits, get no typing errors: they would become other names."""

_SPLIT_UNIT = re.compile(
    r"\b(\d+(?:\.\d+)?) ?(gb|tb|mb|kg|g|cm|mm|m|ft|w|kw|l|litres?|mhz|ghz|hz|v|a|mp|rpm|mah|db)\b",
    re.IGNORECASE,
)
_INCHES = re.compile(r'(\d+(?:\.\d+)?)(?:"| ?-?inch(?:es)?\b|(?:-| )in\b)', re.IGNORECASE)
COLOURS = (
    *("black", "blue", "brown", "cyan", "gold", "green", "grey", "magenta"),
    *("orange", "pink", "purple", "red", "silver", "white", "yellow"),
)
_COLOUR = re.compile(rf"\b(?:{'|'.join(COLOURS)})\b", re.IGNORECASE)
SHORT = {
    "black": "blk",
    "white": "wht",
    "stainless steel": "s/steel",
    "integrated": "integ",
    "adapter": "adptr",
    "litres": "l",
    "bluetooth": "bt",
    "with": "w/",
    "without": "w/o",
    "cartridge": "cart",
    "television": "tv",
    "freestanding": "f/s",
    "power supply": "psu",
    "universal serial bus": "usb",
    "package": "pkg",
}
"""How shops and shoppers cut words short."""


def _neighbours() -> dict[str, str]:
    near: dict[str, str] = {}
    for number, row in enumerate(_ROWS):
        for place, letter in enumerate(row):
            beside = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
            below = _ROWS[number + 1][max(place - 1, 0) : place + 1] if number + 1 < len(_ROWS) else ""
            near[letter] = beside + below
    for letter, others in list(near.items()):
        for other in others:
            if letter not in near[other]:
                near[other] += letter
    return near


NEIGHBOURS = _neighbours()
"""Letters beside each letter on a QWERTY keyboard."""


def typing_error(text: str, rng: random.Random) -> str:
    """Swap, drop, double or replace one letter of one longer word; a text without such a word stays."""
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if len(word) >= TYPED_CHARS and word.isalpha()]
    if not places:
        return text
    place = rng.choice(places)
    word = words[place]
    at = rng.randrange(1, len(word) - 1)
    kind = rng.choice(("swap", "drop", "double", "replace"))
    if kind == "swap":
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif kind == "drop":
        word = word[:at] + word[at + 1 :]
    elif kind == "double":
        word = word[:at] + word[at] + word[at:]
    else:
        near = NEIGHBOURS.get(word[at].casefold(), word[at])
        word = word[:at] + rng.choice(near) + word[at + 1 :]
    return " ".join([*words[:place], word, *words[place + 1 :]])


def reorder(text: str, rng: random.Random) -> str:
    """Move one part of the text, from some word on, to its front."""
    words = text.split(" ")
    if len(words) < 2:
        return text
    at = rng.randrange(1, len(words))
    return " ".join(words[at:] + words[:at])


def drop_words(text: str, rng: random.Random, share: float, kept: Collection[str] = ()) -> str:
    """Leave out words with this probability, at most half; those with digits or in `kept` stay."""
    words = text.split(" ")
    droppable = [
        place
        for place, word in enumerate(words)
        if not any(map(str.isdigit, word)) and word.casefold().strip(",;()") not in kept
    ]
    chosen = {place for place in droppable if rng.random() < share}
    if len(chosen) > len(words) // 2:
        return text
    return " ".join(word for place, word in enumerate(words) if place not in chosen)


def vary_units(text: str, rng: random.Random) -> str:
    """Write all numbers with units in another way: `16gb` or `16 gb`, `24"`, `24 inch` or `24in`."""
    gap = rng.choice(("", " "))
    inches = rng.choice(('"', " inch", "in", "-inch"))
    text = _SPLIT_UNIT.sub(lambda found: f"{found[1]}{gap}{found[2]}", text)
    return _INCHES.sub(lambda found: f"{found[1]}{inches}", text)


def abbreviate(text: str, rng: random.Random) -> str:
    """Cut one word short as shops do, where the text has one of `SHORT`."""
    lowered = text.casefold()
    found = [long for long in SHORT if re.search(rf"\b{long}\b", lowered)]
    if not found:
        return text
    long = rng.choice(found)
    return re.sub(rf"\b{long}\b", SHORT[long], text, count=1, flags=re.IGNORECASE)


def swap_attribute(text: str, rng: random.Random) -> str:
    """Name another colour, or double the first measure, which makes another product; else change nothing."""
    named = {found.casefold() for found in _COLOUR.findall(text)}
    if named:
        old = rng.choice(sorted(named))
        new = rng.choice([colour for colour in COLOURS if colour not in named])
        return re.sub(rf"\b{old}\b", new, text, flags=re.IGNORECASE)
    measure = _SPLIT_UNIT.search(text)
    if measure is None:
        return text
    return f"{text[: measure.start(1)]}{float(measure[1]) * 2:g}{text[measure.end(1) :]}"


def synonym(text: str, synonyms: Mapping[str, Sequence[str]], rng: random.Random) -> str:
    """Put another name for the first phrase that has one; `synonyms` is in small letters."""
    found = _any_of(tuple(synonyms)).search(text) if synonyms else None
    if found is None:
        return text
    other = rng.choice(synonyms[found.group().casefold()])
    return f"{text[: found.start()]}{other}{text[found.end() :]}"


@lru_cache(maxsize=4)
def _any_of(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Match any of the phrases as whole words, longer ones first."""
    longest_first = sorted(phrases, key=lambda phrase: (-len(phrase), phrase))
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE)


def offer_like(
    title: str,
    brand: str,
    category: str,
    attributes: Mapping[str, str],
    rng: random.Random,
    kept: Collection[str] = (),
) -> str:
    """Write a title as another shop would: small letters, parts moved or dropped, attributes added.

    Words with digits and those in `kept` (colours) stay, since they tell one product from the next.
    """
    rest = title.removeprefix(brand).strip() or title
    rest = drop_words(rest, rng, 0.25, kept)
    if rng.random() < 0.3:
        rest = reorder(rest, rng)
    parts = [rest]
    if brand and rng.random() < 0.75:
        parts.insert(0, brand)
    lowered = rest.casefold()
    extra = [value for value in attributes.values() if len(value) < 25 and value.casefold() not in lowered]
    parts.extend(rng.sample(extra, min(len(extra), rng.randrange(3))))
    if category and category not in lowered and rng.random() < 0.5:
        parts.append(category)
    if rng.random() < 0.2:
        rng.shuffle(parts)
    text = vary_units(" ".join(parts), rng)
    if rng.random() < 0.3:
        text = abbreviate(text, rng)
    return text.casefold()
