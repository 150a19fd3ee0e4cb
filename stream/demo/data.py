"""What the demo sells and what its shoppers do."""

from __future__ import annotations

import csv
import random
from collections import Counter
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

    The gift shop's sales lines come in their own order as purchases. One event in ten is a query that
    people were asked to judge for another shop, put into the mouth of whoever buys next; the products
    judged for those queries join the catalogue.

    Raises:
        WrongFile: a file is missing or is not what it should be.
    """
    sales, products, queries = (folder / name for name in (SALES, PRODUCTS, QUERIES))
    for path in (sales, products, queries):
        if not path.is_file():
            raise WrongFile(f"{path}: no such file; --data names the folder that holds it")
    texts, judged = _read_queries(queries)
    electronics = [item for item in icecat.read_items(products, Counter()) if item.item_id in judged]
    gifts = online_retail.read_items(sales, Counter())
    return DemoData(
        "COMPOSED of real data: Online Retail II sales, Icecat products and queries; "
        "who searches for what is chance",
        (*gifts, *electronics),
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
    for sale in online_retail.read_sales(sales, Counter()):
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
