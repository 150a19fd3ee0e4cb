"""Build the pairs that models learn from: query and product, the same product twice, bought together."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from model_factory.preparation import augmentation, queries
from model_factory.preparation.attributes import with_unit
from model_factory.preparation.queries import Catalogue
from model_factory.preparation.sources import Offer, Product, Rejected, Sale
from model_factory.preparation.splits import Shares, Split, by_key, by_time
from model_factory.preparation.wording import Queries, key, terms

Objective = Literal["query", "same_product", "bought_together"]

QUERIES_PER_PRODUCT = 7
MAX_PAIRS_OF_QUERY = 60
"""Products that one and the same query is paired with."""
TYPING_ERRORS, REORDERED = 0.12, 0.08
"""Shares of the queries that are mistyped, and turned around."""
MAX_PAIRS_OF_CLUSTER = 60
REWORDED_OFFERS = 1
REWORDED_PRODUCTS = 2
SWAPPED = 0.3
"""Share of the rewordings that get a negative in which the product has another colour or measure."""
MAX_BASKET = 40
"""A larger invoice is a reseller's, whose lines say little of one another."""
MIN_TOGETHER = 4
"""Invoices of one split that must hold both."""
MIN_COSINE = 0.06
"""Of the two items' invoices: invoices with both / sqrt(invoices with one * invoices with the other)."""
MAX_PAIRS_OF_ITEM: Mapping[Split, int] = {"train": 20, "validation": 4, "test": 4}


@dataclass
class Pair:
    """Two texts that belong together, and texts that do not belong to the first.

    `group` names what `anchor` stands for: the query without typing errors, the cluster or the item code.
    `positive_at` is the place of the positive among the products or offers, where it has one.
    """

    anchor: str
    positive: str
    objective: Objective
    source: str
    group: str
    category: str
    split: Split
    positive_at: int | None = None
    negatives: list[str] = field(default_factory=list)


def query_pairs(
    products: Sequence[Product],
    texts: Sequence[str],
    readable: Sequence[Mapping[str, str]],
    splits: Sequence[Split],
    catalogue: Catalogue,
    apart: Queries,
    shares: Shares,
    seed: int,
    rejected: Rejected,
    progress: Callable[[int], None] | None = None,
) -> list[Pair]:
    """Pair made-up queries with the products they were made from.

    A query that comes near to one of `apart`, with or without a typing error, is left out. So is a query made
    from products of several splits, but for those of the split that its own hash chooses.

    Args:
        products, texts, readable, splits: of the same length; `texts` is what the encoder reads.
    """
    made: list[tuple[str, str, str, int]] = []
    splits_of: defaultdict[str, set[Split]] = defaultdict(set)
    for place, product in enumerate(products):
        rng = random.Random(f"{seed}:{product.item_id}")
        for kind, query in queries.make(product, readable[place], catalogue, QUERIES_PER_PRODUCT, rng):
            anchor = augmentation.reorder(query, rng) if rng.random() < REORDERED else query
            if rng.random() < TYPING_ERRORS:
                anchor = augmentation.typing_error(anchor, rng)
            group = key(query)
            if apart.near(query) or apart.near(anchor):
                rejected.add("made queries", "near to a judged query", anchor)
                continue
            splits_of[group].add(splits[place])
            made.append((kind, anchor, group, place))
        if progress is not None:
            progress(place + 1)
    order = list(range(len(made)))
    random.Random(seed).shuffle(order)
    counts: Counter[str] = Counter()
    kept: list[int] = []
    for number in order:
        _, anchor, group, place = made[number]
        if len(splits_of[group]) > 1 and by_key(group, shares, seed) != splits[place]:
            rejected.add("made queries", "of products in other splits than the query", anchor)
        elif counts[group] == MAX_PAIRS_OF_QUERY:
            rejected.add("made queries", f"more than {MAX_PAIRS_OF_QUERY} products", anchor)
        else:
            counts[group] += 1
            kept.append(number)
    return [
        Pair(
            anchor,
            texts[place],
            "query",
            f"products, {kind}",
            group,
            products[place].category,
            splits[place],
            place,
        )
        for kind, anchor, group, place in (made[number] for number in sorted(kept))
    ]


def reworded_products(
    products: Sequence[Product],
    texts: Sequence[str],
    readable: Sequence[Mapping[str, str]],
    splits: Sequence[Split],
    colours: Collection[str],
    seed: int,
) -> list[Pair]:
    """Pair products with what another shop might call them, made from title, description and attributes.

    Some get a first negative: the same text with another colour or measure.
    """
    pairs: list[Pair] = []
    for place, product in enumerate(products):
        rng = random.Random(f"{seed}:reworded:{product.item_id}")
        values = {name: with_unit(name, value) for name, value in readable[place].items() if value != "yes"}
        said: set[str] = {texts[place].casefold()}
        for number in range(REWORDED_PRODUCTS):
            title = product.description if number % 2 and len(product.description) > 20 else product.title
            title = " ".join(title.split()[:20])
            other = augmentation.offer_like(title, product.brand, product.category, values, rng, colours)
            if other in said:
                continue
            said.add(other)
            pairs.append(
                Pair(
                    other,
                    texts[place],
                    "same_product",
                    "products, reworded",
                    f"product {product.item_id}",
                    product.category,
                    splits[place],
                    place,
                )
            )
            another = augmentation.swap_attribute(texts[place], rng)
            if rng.random() < SWAPPED and another != texts[place]:
                pairs[-1].negatives.append(another)
    return pairs


def offer_pairs(
    offers: Sequence[Offer], splits: Mapping[str, Split], synonyms: Mapping[str, Sequence[str]], seed: int
) -> list[Pair]:
    """Pair offers of one product with one another, with the name of it, and with rewordings of themselves.

    Args:
        splits: of the clusters.
    """
    clusters: defaultdict[str, list[int]] = defaultdict(list)
    for place, offer in enumerate(offers):
        clusters[offer.cluster].append(place)
    pairs: list[Pair] = []
    for cluster, places in clusters.items():
        rng = random.Random(f"{seed}:offers:{cluster}")
        label, category = offers[places[0]].label, offers[places[0]].category
        both = list(itertools.permutations(places, 2))
        told: list[tuple[str, str, str, int]] = [
            (offers[left].title, offers[right].title, "offers", right)
            for left, right in rng.sample(both, min(len(both), MAX_PAIRS_OF_CLUSTER))
        ]
        for place in places:
            title = offers[place].title
            if label and key(label) != key(title):
                told.append((label.casefold(), title, "offers, name", place))
            for _ in range(REWORDED_OFFERS):
                other = augmentation.synonym(title, synonyms, rng) if rng.random() < 0.5 else title
                other = augmentation.offer_like(other, "", category.casefold(), {}, rng)
                if other != title:
                    told.append((other, title, "offers, reworded", place))
        pairs.extend(
            Pair(
                anchor,
                positive,
                "same_product",
                source,
                f"cluster {cluster}",
                category,
                splits[cluster],
                place,
            )
            for anchor, positive, source, place in told
        )
    return pairs


def basket_pairs(
    sales: Sequence[Sale], names: Mapping[str, str], shares: Shares, rejected: Rejected
) -> list[Pair]:
    """Pair descriptions of items that stand on the same invoices more often than their sales explain.

    Invoices are split by time; a pair of items that an earlier split has is left out of a later one.

    Args:
        names: the description of each item code.
    """
    baskets: dict[str, dict[str, None]] = {}
    starts: dict[str, datetime] = {}
    for sale in sales:
        starts.setdefault(sale.invoice, sale.at)
        if sale.code in names:
            baskets.setdefault(sale.invoice, {})[sale.code] = None
    split_of = by_time(sorted(baskets, key=lambda invoice: starts[invoice]), shares)
    pairs: list[Pair] = []
    seen: set[tuple[str, str]] = set()
    for split in MAX_PAIRS_OF_ITEM:
        items: Counter[str] = Counter()
        together: Counter[tuple[str, str]] = Counter()
        for invoice, codes in baskets.items():
            if split_of[invoice] != split:
                continue
            if not 2 <= len(codes) <= MAX_BASKET:
                rejected.add("baskets", f"fewer than 2 or more than {MAX_BASKET} items", invoice)
                continue
            items.update(codes.keys())
            together.update(itertools.combinations(sorted(codes), 2))
        scored = [
            (count / math.sqrt(items[left] * items[right]), left, right)
            for (left, right), count in together.items()
            if count >= MIN_TOGETHER and names[left] != names[right] and (left, right) not in seen
        ]
        counts: Counter[str] = Counter()
        for cosine, left, right in sorted(scored, reverse=True):
            if cosine < MIN_COSINE:
                break
            if max(counts[left], counts[right]) >= MAX_PAIRS_OF_ITEM[split]:
                continue
            counts.update((left, right))
            seen.add((left, right))
            for anchor, positive in ((left, right), (right, left)):
                pairs.append(
                    Pair(
                        names[anchor],
                        names[positive],
                        "bought_together",
                        "events",
                        f"item {anchor}",
                        "",
                        split,
                    )
                )
    return pairs


def item_names(sales: Sequence[Sale], cleaned: Callable[[str], str]) -> dict[str, str]:
    """Return the description most often given to each item code."""
    given: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sale in sales:
        given[sale.code][sale.description] += 1
    return {code: cleaned(counts.most_common(1)[0][0]) for code, counts in given.items()}


def model_numbers(title: str) -> set[str]:
    """Return words of six characters or more with letters and digits: what names one product alone."""
    return {
        word
        for word in terms(title)
        if len(word) >= 6 and any(map(str.isdigit, word)) and any(map(str.isalpha, word))
    }
