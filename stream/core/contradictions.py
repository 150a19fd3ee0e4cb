"""What a product's title, description, brand, category and attributes say against one another.

Each rule gives a strength in 0..1, 0 where nothing is known. Honest feeds contradict themselves too, so that
only those contradictions count that hardly ever have a good reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stream.core.shop_words import COLOURS, MAKERS, WORD, kinds_in
from stream.core.text_faults import at

_LINKS = frozenset(
    (
        "for", "compatible", "fits", "with", "to", "suits", "works", "equivalent", "replaces", "replacement",
        "by", "vs", "exclusive", "für", "und", "mit", "pour", "para", "per", "voor",
    )
)  # fmt: skip
_PLATFORMS = frozenset(
    ("google", "microsoft", "amazon", "vodafone", "nintendo", "kingston", "verbatim", "dymo")
)
"""Makers whose names stand in the titles of others' products."""


def brand_conflict(head: list[str], brand: str) -> float:
    """Another maker's name begins the title, or a second one stands in it without a word that links them."""
    named: list[str] = []
    for word in head:
        if word in _LINKS:
            break
        maker = MAKERS.get(word)
        if maker is not None and maker not in named and maker not in _PLATFORMS:
            named.append(maker)
    if not named:
        return 0.0
    own = WORD.findall(brand.casefold())
    makers = {MAKERS.get(word, word) for word in own}
    if own and makers.isdisjoint(named) and not any(word in head for word in own if len(word) > 1):
        return 0.55 if any(word in MAKERS for word in own) or head[0] in MAKERS else 0.3
    return at(len(named), (0.0, 0.0, 0.3, 0.5, 0.6))


_SIZE = re.compile(
    r"(?<![\w.,/x+-])(\d{1,5}(?:[.,]\d{1,2})?)(?:\s|-)?"
    r"(gb|tb|inch(?:es)?|zoll|\"|”|''|kg|litres?|liters?|mah|pages|pieces|pcs?)"
    r"(?![\w/])\s?(ram|ddr[\d-]?|sdram|lpddr\w*|memory|arbeitsspeicher|gddr\w*|vram)?"
)
_UNITS = {
    **dict.fromkeys(("gb", "tb"), "gb"),
    **dict.fromkeys(("inch", "inches", "zoll", '"', "”", "''"), "inch"),
    **dict.fromkeys(("litre", "litres", "liter", "liters"), "l"),
    **dict.fromkeys(("pieces", "pc", "pcs"), "pieces"),
    "kg": "kg",
    "mah": "mah",
    "pages": "pages",
}


def _sizes(lower: str) -> dict[str, list[float]]:
    """The values by measure, in order; memory that is named so is another measure than storage."""
    found: dict[str, list[float]] = {}
    for number, unit, role in _SIZE.findall(lower):
        value = float(number.replace(",", "."))
        measure = _UNITS[unit]
        if measure == "gb":
            value *= 1024.0 if unit == "tb" else 1.0
            measure = "ram" if role else "gb"
        found.setdefault(measure, []).append(value)
    storage = found.get("gb", [])
    if len(storage) > 1 and min(storage) <= 24 and max(storage) >= 2 * min(storage):
        found["gb"] = [value for value in storage if value > 24] or [max(storage)]
    return found


def _differ(values: Sequence[float]) -> bool:
    """Whether values are more than rounding apart."""
    return max(values) > 1.05 * min(values)


_RANGE = re.compile(
    r"(?:\"|”|''|inch|mm|in)\s?(?:[x×*/-]|to\b|and\b)\s?(?=\d)|\d\s?[x×/-]\s?\d+(?:\.\d+)?\s?(?:\"|”|''|in)"
    r"|(?:\"|”|'') (?:diam|frame|to|length|width|depth|height|long|wide|high)"
)
"""Signs that a title gives lengths of several sides, or from and to."""

_MEASURES = {
    "diagonal": "inch",
    "display_diagonal": "inch",
    "screen_size": "inch",
    "internal_memory": "ram",
    "ram": "ram",
    "total_storage_capacity": "gb",
    "storage_capacity": "gb",
    "storage": "gb",
    "battery_capacity": "mah",
    "quantity_per_pack": "pieces",
}
"""Attributes that say again what titles say, and the measure that their value is of."""


_ATTRIBUTE_CONFLICT = {"inch": 0.53, "gb": 0.53, "mah": 0.53, "pieces": 0.53, "ram": 0.3}
"""Memory is the weakest: titles of modules give that of one of several, or of all."""


def size_conflict(title: str, description: str, attributes: Mapping[str, Any]) -> float:
    """Two values in the title, or one there and another in the description or the attributes; both folded."""
    in_title = _sizes(title)
    if not in_title:
        return 0.0
    if "inch" in in_title and _RANGE.search(title):
        del in_title["inch"]
    strength = 0.0
    in_body = _sizes(description)
    for measure, values in in_title.items():
        if _differ(values):
            strength = max(strength, 0.55 if measure in ("gb", "inch", "mah") else 0.25)
            continue
        other = in_body.get(measure)
        if other and not _differ(other) and _differ([*values, *other]):
            strength = max(strength, 0.52 if measure in ("inch", "mah") else 0.3)
    for name, value in attributes.items():
        measure = _MEASURES.get(name[2:] if name[1:2] == "_" else name, "")
        if measure in in_title:
            number = _number(value)
            inches = measure == "inch" and _differ([2.54 * in_title[measure][0], number])
            if number > 0 and not _differ(in_title[measure]) and _differ([number, *in_title[measure]]):
                strength = max(strength, _ATTRIBUTE_CONFLICT[measure] if measure != "inch" or inches else 0.0)
    return strength


def _number(value: object) -> float:
    """A number, or one that a text begins with; 0 where there is none."""
    if isinstance(value, int | float):
        return float(value)
    found = _LEADING.match(value) if isinstance(value, str) else None
    return float(found[0]) if found else 0.0


_LEADING = re.compile(r"\d{1,6}(?:\.\d{1,3})?(?=\D|$)")


def colour_conflict(head: list[str], body: list[str], attributes: Mapping[str, Any]) -> float:
    """One plain colour in the title, and only others in the description or the attributes."""
    named = COLOURS.intersection(head)
    if len(named) != 1:
        return 0.0
    strength = 0.0
    described = COLOURS.intersection(body)
    if len(described) == 1 and described != named:
        strength = 0.52
    for name, value in attributes.items():
        if isinstance(value, str) and "colo" in name and len(value) < 40:
            attribute = COLOURS.intersection(WORD.findall(value.casefold()))
            if len(attribute) == 1 and attribute != named and not WORD.sub("", value):
                strength = max(strength, 0.52)
    return strength


_PARTS = frozenset(
    (
        "camera",
        "speaker",
        "scanner",
        "input",
        "charger",
        "monitor",
        "lighting",
        "music",
        "tables",
        "films",
        "tools",
    )
)
"""Kinds that are also parts of others."""


_ACCESSORIES = frozenset(
    ("accessory", "accessories", "parts", "supplies", "peripherals", "components", "equipment")
)
_BESIDE_COMPUTERS = frozenset(
    (
        "input",
        "tablet",
        "monitor",
        "printer",
        "scanner",
        "network",
        "gaming",
        "speaker",
        "headphones",
    )
)


def kind_conflict(head: list[str], body: list[str], category: str) -> float:
    """A category, or a description without a word of the title, that is about another kind of product."""
    kinds = kinds_in(head)
    if not kinds:
        return 0.0
    strength = 0.0
    if category:
        leaf = WORD.findall(category.casefold().rpartition(" > ")[2])
        named = kinds_in(leaf)
        wide = not _ACCESSORIES.isdisjoint(leaf) or ("computer" in named and kinds <= _BESIDE_COMPUTERS)
        if named and named.isdisjoint(kinds) and not wide and not kinds <= _PARTS:
            strength = 0.55
    if len(body) > 3:
        other = kinds_in(body)
        if other and other.isdisjoint(kinds) and set(head).isdisjoint(body):
            strength = max(strength, 0.45)
    return strength
