"""What the demo sells and what its shoppers do."""

from __future__ import annotations

import csv
import random
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stream.core.events import ClickMessage, ItemMessage, SearchMessage
from stream.errors import WrongFile
from stream.importers import icecat, online_retail, synthetic

SALES = Path("online_retail/events.csv.gz")
PRODUCTS = Path("icecat/products.jsonl.gz")
QUERIES = Path("icecat/qrels.csv")
SEARCH_SHARE = 0.1
SHOPPERS_AT_ONCE = 20
LABEL = {"composed": True}


class DemoData(NamedTuple):
    """A catalogue and events for it; `label` says where they come from, wherever figures are shown."""

    label: str
    items: tuple[ItemMessage, ...]
    events: Iterator[ClickMessage | SearchMessage]


def built_in(seed: int) -> DemoData:
    """The built-in shop, which nobody real is in."""
    items = synthetic.make_items()
    events = synthetic.make_events(items, seed, start_ms=0)
    return DemoData(f"SYNTHETIC shop, seed {seed}", items, events)


def composed(folder: Path, seed: int) -> DemoData:
    """Real sales, real products and real queries, put together by chance.

    The gift shop's sales lines are purchases; a shopper's come in their own order, twenty shoppers at
    once. One event in ten is a query that people were asked to judge for another shop, put into the
    mouth of whoever buys next; the products judged for those queries join the catalogue.

    Raises:
        WrongFile: a file is missing or is not what it should be.
    """
    sales, products, queries = (folder / name for name in (SALES, PRODUCTS, QUERIES))
    for path in (sales, products, queries):
        if not path.is_file():
            raise WrongFile(f"{path}: no such file; --data names the folder that holds it")
    texts, judged = _read_queries(queries)
    items = {item.item_id: item for item in online_retail.read_items(sales, Counter())}
    for item in icecat.read_items(products, Counter()):
        if item.item_id in judged:
            items.setdefault(item.item_id, item)  # the two shops number their products alike
    return DemoData(
        "COMPOSED of real data: Online Retail II sales, Icecat products and queries; "
        "who meets whom and who searches for what is chance",
        tuple(items.values()),
        _mixed(sales, texts, random.Random(seed)),
    )


def _read_queries(path: Path) -> tuple[list[str], set[str]]:
    """The distinct queries, and the ids of the products judged for them."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return list(dict.fromkeys(row["query"] for row in rows)), {row["product_id"] for row in rows}
    except (OSError, KeyError, csv.Error) as error:
        raise WrongFile(f"{path}: not the judgements of queries ({error!r})") from error


def _mixed(sales: Path, queries: list[str], rng: random.Random) -> Iterator[ClickMessage | SearchMessage]:
    """The sales of many shoppers at once, with searches in between."""
    for sale in _interleaved(online_retail.read_sales(sales, Counter()), rng):
        event = online_retail.to_event(sale)
        if rng.random() < SEARCH_SHARE:
            yield SearchMessage(
                event_id=f"composed-{sale.row}",
                event_time=sale.at_ms,
                user_id=event.user_id,
                search_query=rng.choice(queries),
                session_id=event.session_id,
                context=LABEL,
            )
        yield event


def _interleaved(sales: Iterator[online_retail.Sale], rng: random.Random) -> Iterator[online_retail.Sale]:
    """Take the next sale of one of the shoppers at hand by chance; each shopper's own order stays."""
    at_hand: dict[str, deque[online_retail.Sale]] = {}
    for sale in sales:
        shopper = sale.customer_id or sale.invoice
        if shopper not in at_hand:
            while len(at_hand) >= SHOPPERS_AT_ONCE:
                yield _take(at_hand, rng)
            at_hand[shopper] = deque()
        at_hand[shopper].append(sale)
    while at_hand:
        yield _take(at_hand, rng)


def _take(at_hand: dict[str, deque[online_retail.Sale]], rng: random.Random) -> online_retail.Sale:
    shopper = rng.choice(list(at_hand))
    sale = at_hand[shopper].popleft()
    if not at_hand[shopper]:
        del at_hand[shopper]
    return sale
