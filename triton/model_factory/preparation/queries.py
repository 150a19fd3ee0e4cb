"""Make up the queries with which shoppers would look for a product."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from model_factory.preparation import attributes as attribute_values
from model_factory.preparation.augmentation import synonym, vary_units
from model_factory.preparation.sources import Product
from model_factory.preparation.synonyms import spoken
from model_factory.preparation.wording import FILLERS

MAX_WORDS = 5
LENGTHS = {1: 20, 2: 40, 3: 25, 4: 10, 5: 5}
"""Words of a query and how often, where no real queries are given."""
KINDS = {
    "category": 4,
    "head": 1,
    "brand and category": 4,
    "attribute and category": 5,
    "two attributes and category": 2,
    "model": 3,
    "title words": 4,
    "description words": 3,
    "compatible with": 2,
}
"""Kinds of queries and how often each is chosen."""

OTHER_NAMES = 0.35
"""Share of the queries in which a type goes by another name, where it has one."""
VAGUE = frozenset({"unit", "kit", "accessory", "media", "part", "component", "set", "module", "system"})
"""Last words of types that alone ask for nothing."""

ASKED = (
    "product colour",
    "cable colour",
    "printing colours",
    "connector 1",
    "connector 2",
    "connectivity technology",
    "print technology",
    "material",
    "internal memory",
    "internal memory type",
    "total storage capacity",
    "hdd capacity",
    "display diagonal",
    "cable length",
    "cable type",
    "processor family",
    "form factor",
    "operating system installed",
    "type",
    "finish type",
    "battery technology",
    "switch type",
    "usb connector",
    "headphone connectivity",
    "output power",
    "megapixel",
    "wearing style",
    "device interface",
    "component for",
    "purpose",
    "ink type",
    "memory clock speed",
)
"""Attributes that shoppers name; of other names only those that end in "type" or "colour" are used."""
COMPATIBLE = ("compatibility", "brand compatibility", "compatible products")

_WORD = re.compile(r"[^\s,;|()\[\]/]+")
_MODEL = re.compile(r"(?=[A-Za-z/-]*\d)(?=\d*[A-Za-z-])[A-Za-z0-9][A-Za-z0-9/-]{2,15}$")
_MEASURE = re.compile(
    r"\d+(?:\.\d+)?(?:mm|cm|m|ft|in|gb|tb|mb|w|v|a|hz|mhz|ghz|x\d+|pin|port)?$", re.IGNORECASE
)


@dataclass(frozen=True)
class Catalogue:
    """What queries are made with: how common words are, how long queries are, what else things are called."""

    word_counts: Counter[str] = field(default_factory=Counter)
    lengths: Mapping[int, int] = field(default_factory=lambda: LENGTHS)
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)


def lengths_of(queries: Collection[str]) -> Mapping[int, int]:
    """Count how many words real queries have, up to five."""
    counts = Counter(min(len(query.split()), MAX_WORDS) for query in queries)
    return counts or LENGTHS


def make(
    product: Product,
    readable: Mapping[str, str],
    catalogue: Catalogue,
    count: int,
    rng: random.Random,
) -> list[tuple[str, str]]:
    """Make up to `count` different queries of different kinds, each as (kind, query) in small letters.

    Args:
        product: with its category.
        readable: its attributes, from `attributes.normalise`.
    """
    makers = {kind: _maker(kind, product, readable, catalogue, rng) for kind in KINDS}
    found: dict[str, str] = {}
    for _ in range(count * 4):
        if len(found) == count:
            break
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        query = next(makers[kind], "")
        query = " ".join(query.casefold().split()[: MAX_WORDS + 1])
        if len(query) > 1 and query not in found:
            found[query] = kind
    return [(kind, query) for query, kind in found.items()]


def _maker(
    kind: str, product: Product, readable: Mapping[str, str], catalogue: Catalogue, rng: random.Random
) -> Iterator[str]:
    """Yield queries of one kind; none where the product has not what they are made of."""
    said = spoken(product.category)
    category = said[0] if said else ""
    features = _features(readable)
    words = _WORD.findall(product.title)
    models = [word for word in words if _MODEL.match(word) and not _MEASURE.match(word)]
    while True:
        named = rng.choice(said) if said else ""
        if rng.random() < OTHER_NAMES:
            named = synonym(named, catalogue.synonyms, rng)
        match kind:
            case "category" if category:
                yield named
            case "head" if category and named.split()[-1] not in VAGUE:
                yield named.split()[-1]
            case "brand and category" if category and product.brand:
                yield f"{product.brand} {named}"
            case "attribute and category" if category and features:
                yield vary_units(f"{rng.choice(features)} {named}", rng)
            case "two attributes and category" if category and len(features) > 1:
                first, second = rng.sample(features, 2)
                yield vary_units(f"{first} {second} {named}", rng)
            case "model" if models:
                yield " ".join(
                    part
                    for part in (
                        product.brand if rng.random() < 0.4 else "",
                        rng.choice(models),
                        named.split()[-1] if category and rng.random() < 0.4 else "",
                    )
                    if part
                )
            case "title words" if words:
                yield _key_words(words, catalogue, rng)
            case "description words" if product.description:
                yield _phrase(product.description, catalogue, rng)
            case "compatible with" if category and (fits := _fits(readable)):
                device = rng.choice(fits)
                yield rng.choice((f"{device} {named}", f"{named} for {device}", f"{named} {device}"))
            case _:
                return


def _features(readable: Mapping[str, str]) -> list[str]:
    """Return the attribute values that a shopper may name, with their units."""
    features = []
    for name, value in readable.items():
        if name not in ASKED and not name.endswith((" type", " colour")):
            continue
        first = attribute_values.with_unit(name, attribute_values.values_of(value)[0])
        if len(first) <= 25 and first != "yes" and not first.replace(".", "").isdigit():
            features.append(re.sub(r"\s*\(.*?\)", "", first))
    return [feature for feature in features if feature]


def _fits(readable: Mapping[str, str]) -> list[str]:
    return [
        value
        for name in COMPATIBLE
        for value in attribute_values.values_of(readable.get(name, ""))
        if len(value.split()) <= 4 and len(value) > 2
    ]


def _key_words(words: Sequence[str], catalogue: Catalogue, rng: random.Random) -> str:
    """Choose words of the title, rarer ones rather, in their order."""
    candidates = [word for word in dict.fromkeys(words) if word.casefold() not in FILLERS and len(word) > 1]
    if not candidates:
        return ""
    length = rng.choices(list(catalogue.lengths), list(catalogue.lengths.values()))[0]
    weights = [1 / (1 + catalogue.word_counts[word.casefold()]) ** 0.25 for word in candidates]
    chosen: set[str] = set()
    for word in rng.choices(candidates, weights, k=length * 3):
        if len(chosen) < length:
            chosen.add(word)
    return " ".join(word for word in candidates if word in chosen)


def _phrase(text: str, catalogue: Catalogue, rng: random.Random) -> str:
    """Choose words that stand one beside the other, without fillers at the ends."""
    words = _WORD.findall(text)
    length = max(2, rng.choices(list(catalogue.lengths), list(catalogue.lengths.values()))[0])
    start = rng.randrange(max(1, len(words) - length + 1))
    phrase = [word.strip(".:!?\"'") for word in words[start : start + length]]
    while phrase and (phrase[0].casefold() in FILLERS or not phrase[0]):
        phrase.pop(0)
    while phrase and (phrase[-1].casefold() in FILLERS or not phrase[-1]):
        phrase.pop()
    return " ".join(phrase) if len(phrase) > 1 else ""
