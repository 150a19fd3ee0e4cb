"""Name the type of a product where the shop gives no category: from what its titles repeat.

Titles such as "C2G Cat5e Patch Cable Pink 5m networking cable" name the type in small letters among names in
capitals. What enough products repeat there is a type; other products get one that their text contains.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from model_factory.preparation.sources import Product
from model_factory.preparation.wording import terms

AT_LEAST = 4
"""Products that must name a type in their titles."""
AT_LEAST_FOUND = 15
"""Products that must name a type of one word, before it is looked for in the text of others."""
MAX_WORDS = 4

_SMALL = re.compile(r"[a-z][a-z/&'-]*$")
_NO_TYPE = """
mm cm ml kg ft in inch ppm rpm cps nm ohm lumens pixels pages pcs piece pieces sheets sheet year years
month series gen born channels channel male female port ports pin slot row rows buttons round white film
matt glossy gloss opaque hand inscription mil amp watt hz mhz ghz dpi transparent perforated pack box
blank select to with for and over on or of w w/ w/o up by from the an at as per into incl non not
categorized replacement thermal quality emulation integrated satellite multifunctional en van de luxe
moto weatherproof hard-wearing strong extra adhesion luminous snagless optic mounting business class lite
digital portable landscape compatible gray silver gold string upgrade steel original
"""
"""Words that stand in small letters and belong to no type: units, states, colours."""
_TOO_BROAD = frozenset(
    ("paper", "supply", "unit", "cover", "module", "component", "printing", "extension", "widescreen flat")
)
"""What alone names no type."""
VOTERS, VOTES = 10, 6
"""Nearest products with a type that are asked, and how many must agree."""


def category_of(products: Sequence[Product], colours: Iterable[str] = ()) -> list[str]:
    """Return the category of each product: its own, else a type from its title, attributes or description.

    Args:
        colours: words that no type contains.

    Empty where nothing is known.
    """
    no_type = set(_NO_TYPE.split()) | {word for colour in colours for word in colour.casefold().split()}
    runs = [list(_runs(product, no_type)) for product in products]
    counts = Counter(run for found in runs for run in set(found))
    types = {run: count for run, count in counts.items() if count >= AT_LEAST}
    by_terms = {
        terms(run): run
        for run, count in sorted(types.items(), key=lambda entry: (entry[1], entry[0]))
        if count >= AT_LEAST_FOUND or " " in run
    }
    categories = []
    for product, found in zip(products, runs, strict=True):
        own = [run for run in found if run in types]
        categories.append(
            product.category.casefold()
            or (max(own, key=lambda run: (run.count(" "), types[run])) if own else "")
            or _product_type(product)
            or _contained(product.title, by_terms)
            or _contained(product.description, by_terms)
        )
    return categories


def voted(categories: Sequence[str], nearest: Iterable[Sequence[int]]) -> list[str]:
    """Give products without a category that of most of their nearest products, where these agree.

    Args:
        nearest: places of the nearest other products of each, nearest first.
    """
    chosen = []
    for own, near in zip(categories, nearest, strict=True):
        voters = Counter(list(filter(None, (categories[place] for place in near)))[:VOTERS])
        best, votes = voters.most_common(1)[0] if voters else ("", 0)
        chosen.append(own or (best if votes >= VOTES else ""))
    return chosen


def _runs(product: Product, no_type: set[str]) -> Iterator[str]:
    """Yield the runs of words in small letters in a title, broken at what cannot be part of a type."""
    run: list[str] = []
    for word in [*product.title.removeprefix(product.brand).split(), "."]:
        bare = word.strip("(),")
        if _SMALL.match(bare) and len(bare) > 1 and bare not in no_type:
            run.append(bare)
            continue
        named = " ".join(run)
        if 0 < len(run) <= MAX_WORDS and len(run[-1]) > 2 and named not in _TOO_BROAD:
            yield named
        run = []


def _product_type(product: Product) -> str:
    value = product.attributes.get("t_product_type")
    return value.casefold() if isinstance(value, str) and not value.isdigit() and len(value) > 3 else ""


def _contained(text: str, types: dict[tuple[str, ...], str]) -> str:
    """Return the longest type whose words stand in the text, one beside the other; of equals the last."""
    found = terms(text)
    for length in range(min(MAX_WORDS, len(found)), 0, -1):
        for start in range(len(found) - length, -1, -1):
            run = types.get(found[start : start + length])
            if run:
                return run
    return ""
