"""The demo's data: said to be what they are, with each shopper's own order kept."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from pathlib import Path

import pytest

from stream.core.events import ClickMessage, SearchMessage
from stream.demo.data import SHOPPERS_AT_ONCE, _interleaved, built_in, composed
from stream.errors import WrongFile
from stream.importers.online_retail import Sale

DATA = Path(__file__).parents[3] / "shared" / "data"


def _sale(row: int, customer: str) -> Sale:
    return Sale(row, 1, f"i{row // 5}", "85048", "A", 1, 1.0, row, customer)


def test_shoppers_are_interleaved_and_each_ones_order_stays() -> None:
    sales = [_sale(row, f"c{row // 5 % 40}") for row in range(1_000)]
    mixed = list(_interleaved(iter(sales), random.Random(1)))
    assert sorted(mixed) == sales
    by_customer: defaultdict[str, list[int]] = defaultdict(list)
    for sale in mixed:
        by_customer[sale.customer_id].append(sale.row)
    assert all(rows == sorted(rows) for rows in by_customer.values())
    assert len({sale.customer_id for sale in mixed[:40]}) > SHOPPERS_AT_ONCE / 2


def test_the_built_in_shop_is_labelled_synthetic() -> None:
    assert "SYNTHETIC" in built_in(1).label


def test_a_folder_without_the_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongFile, match=r"events.csv.gz: no such file; --data names the folder"):
        composed(tmp_path, 1)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data do not lie in ../shared/data")
def test_the_composed_stream_says_so_and_has_purchases_and_searches_of_known_items() -> None:
    data = composed(DATA, 1)
    assert "COMPOSED" in data.label
    ids = [item.item_id for item in data.items]
    assert len(set(ids)) == len(ids)
    events = list(itertools.islice(data.events, 500))
    purchases = [event for event in events if isinstance(event, ClickMessage)]
    searches = [event for event in events if isinstance(event, SearchMessage)]
    assert {event.event_type for event in purchases} == {"purchase"}
    assert {event.item_id for event in purchases} <= set(ids)
    assert 20 <= len(searches) <= 100
    assert all(search.context == {"composed": True} for search in searches)
