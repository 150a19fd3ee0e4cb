"""Importers: real files become messages of the contract, and what is skipped is counted."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from stream.core.events import ClickMessage, SearchMessage, Source, decode_click, decode_item, decode_search
from stream.errors import WrongFile
from stream.importers import icecat, jsonl, online_retail, synthetic

DATA = Path(__file__).parents[3] / "shared" / "data"
NEVER = Source("t", 0, 0, 1_900_000_000_000)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data do not lie in ../shared/data")

HEADER = "invoice,stock_code,description,quantity,ts,unit_price,customer_id,country\n"


def _sales_file(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "events.csv.gz"
    path.write_bytes(gzip.compress((header + "".join(f"{line}\n" for line in lines)).encode()))
    return path


SALE = "1,85048,GLASS BALL,12,2010-01-01 07:45,6.95,13085,United Kingdom"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("C1,85048,X,-12,2010-01-01 07:45,6.95,1,UK", "cancellation"),
        ("A1,B,Adjust bad debt,1,2010-01-01 07:45,6.95,,UK", "accounting entry"),
        ("1,POST,POSTAGE,1,2010-01-01 07:45,18,1,UK", "postage, fee or other code that is no product"),
        ("1,85048,X,0,2010-01-01 07:45,6.95,1,UK", "quantity not positive"),
        ("1,85048,X,1,2010-01-01 07:45,0,1,UK", "price not positive"),
        ("1,85048,X,1,2010-01-01 07:45,nan,1,UK", "price not positive"),
        ("1,85048,X,one,2010-01-01 07:45,1,1,UK", "malformed line"),
        ("1,85048,X,1,yesterday,1,1,UK", "malformed line"),
        ("1,85048,X", "malformed line"),
    ],
)
def test_a_line_that_is_no_sale_is_skipped_and_counted_by_reason(
    tmp_path: Path, line: str, reason: str
) -> None:
    skipped: Counter[str] = Counter()
    sales = list(online_retail.read_sales(_sales_file(tmp_path, line, SALE), skipped))
    assert [sale.stock_code for sale in sales] == ["85048"]
    assert skipped == {reason: 1}


def test_a_sale_becomes_a_purchase_that_the_engine_takes(tmp_path: Path) -> None:
    (sale,) = online_retail.read_sales(_sales_file(tmp_path, SALE), Counter())
    message = online_retail.to_event(sale)
    event = decode_click(NEVER, b"13085", msgspec.json.encode(message))
    assert (event.user_id, event.event_type, event.session_id) == ("13085", "purchase", "1")
    assert event.lines == (("85048", 12, 6.95),)
    assert event.at_ms == int(datetime(2010, 1, 1, 7, 45, tzinfo=UTC).timestamp() * 1000)


def test_a_guest_is_known_for_one_invoice_only(tmp_path: Path) -> None:
    path = _sales_file(tmp_path, "7,85048,X,1,2010-01-01 07:45,1,,UK", "8,85048,X,1,2010-01-01 07:46,1,,UK")
    users = [online_retail.to_event(sale).user_id for sale in online_retail.read_sales(path, Counter())]
    assert users == ["guest-7", "guest-8"]


def test_lines_of_one_minute_keep_their_order_and_ids_name_invoice_and_line(tmp_path: Path) -> None:
    path = _sales_file(
        tmp_path,
        "7,10001,A,1,2010-01-01 07:45,1,1,UK",
        "7,POST,A,1,2010-01-01 07:45,1,1,UK",
        "8,10002,A,1,2010-01-01 07:45,1,2,UK",
        "7,10003,A,1,2010-01-01 07:46,1,1,UK",
    )
    events = [online_retail.to_event(sale) for sale in online_retail.read_sales(path, Counter())]
    assert [event.event_id for event in events] == [
        "online-retail-7-1",
        "online-retail-8-1",
        "online-retail-7-3",
    ]
    times = [event.event_time for event in events]
    assert times == sorted(set(times))


def test_reading_goes_on_after_a_row_with_the_same_ids_and_times(tmp_path: Path) -> None:
    lines = [f"{n // 3},{10000 + n},A,1,2010-01-01 07:{n // 5:02d},1,1,UK" for n in range(30)]
    path = _sales_file(tmp_path, *lines)
    whole = list(online_retail.read_sales(path, Counter()))
    rest = list(online_retail.read_sales(path, Counter(), after_row=whole[12].row))
    assert rest == whole[13:]


def test_days_are_chosen_by_from_and_to(tmp_path: Path) -> None:
    path = _sales_file(tmp_path, *(f"{d},85048,A,1,2010-01-{d:02d} 07:45,1,1,UK" for d in range(1, 6)))
    first, end = (int(datetime(2010, 1, day, tzinfo=UTC).timestamp() * 1000) for day in (2, 4))
    sales = online_retail.read_sales(path, Counter(), from_ms=first, to_ms=end)
    assert [sale.invoice for sale in sales] == ["2", "3"]


def test_a_product_has_its_usual_title_and_its_last_price(tmp_path: Path) -> None:
    path = _sales_file(
        tmp_path,
        "1,85048,GLASS  BALL ,1,2010-01-01 07:45,1,1,UK",
        "2,85048,glass ball?,1,2010-01-01 07:46,2,1,UK",
        "3,85048,GLASS BALL,1,2010-01-01 07:47,3,1,UK",
        "3,85049,,1,2010-01-01 07:47,3,1,UK",
    )
    skipped: Counter[str] = Counter()
    (item,) = online_retail.read_items(path, skipped)
    assert (item.item_id, item.title, item.price) == ("85048", "GLASS BALL", 3.0)
    assert skipped == {"product without any title": 1}


def test_a_file_of_another_kind_is_named_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(WrongFile, match="the columns are a, b; expected invoice, stock_code"):
        list(online_retail.read_sales(_sales_file(tmp_path, header="a,b\n"), Counter()))
    plain = tmp_path / "plain.csv"
    plain.write_text(HEADER)
    with pytest.raises(WrongFile, match="not a readable gzipped CSV file"):
        list(online_retail.read_sales(plain, Counter()))


def test_icecat_lines_become_products_and_bad_ones_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "products.jsonl.gz"
    lines = [
        {"id": "1", "title": " Mouse ", "description": "d", "brand": "B", "attributes": {"n_weight": 2.0}},
        {"id": "2", "title": " ", "description": "", "brand": None, "attributes": {}},
        {"id": 3, "title": "Number as an id"},
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    skipped: Counter[str] = Counter()
    (item,) = icecat.read_items(path, skipped)
    assert (item.item_id, item.title, item.brand, item.attributes) == ("1", "Mouse", "B", {"n_weight": 2.0})
    assert skipped == {"product without id or title": 1, "malformed line": 1}


@pytest.mark.parametrize("name", ["items.jsonl", "items.jsonl.gz"])
def test_json_lines_become_products_and_bad_ones_are_counted(tmp_path: Path, name: str) -> None:
    content = b'{"item_id":"a","title":"A","extra":1}\n\n{"item_id":"b"}\n[]\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    skipped: Counter[str] = Counter()
    assert [item.item_id for item in jsonl.read_items(tmp_path / name, skipped)] == ["a"]
    assert sorted(reason.partition(":")[0] for reason in skipped) == ["invalid_field", "not_an_object"]


def test_the_built_in_shop_is_the_same_for_the_same_seed_and_says_that_it_is_synthetic() -> None:
    items = synthetic.make_items()
    assert items == synthetic.make_items()
    assert len({item.item_id for item in items}) == len({item.title for item in items}) == len(items) == 600
    assert len({tuple(item.category) for item in items}) == 20
    assert all(item.attributes and item.attributes["synthetic"] is True for item in items)
    first, again, other = (
        list(itertools.islice(synthetic.make_events(items, seed, start_ms=10**12), 2_000))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert all(event.context == {"synthetic": True} for event in first)
    digest = hashlib.sha256(msgspec.json.encode(items) + msgspec.json.encode(first)).hexdigest()
    assert digest.startswith("2e9bc6675a3ff3b0"), "the same on every Python"


def test_the_engine_takes_every_message_of_the_built_in_shop() -> None:
    items = synthetic.make_items()
    for item in items:
        assert decode_item(item.item_id.encode(), msgspec.json.encode(item))[1] == item
    events = list(itertools.islice(synthetic.make_events(items, start_ms=10**12), 5_000))
    for event in events:
        decode = decode_click if isinstance(event, ClickMessage) else decode_search
        assert decode(NEVER, event.user_id.encode(), msgspec.json.encode(event)).at_ms == event.event_time
    assert len({event.event_id for event in events}) == len(events)
    kinds = {e.event_type for e in events if isinstance(e, ClickMessage)}
    assert kinds == {"view_item", "add_to_cart", "purchase"}
    assert any(isinstance(event, SearchMessage) for event in events)


@needs_data
def test_the_real_sales_file_gives_unique_events_in_time_order() -> None:
    skipped: Counter[str] = Counter()
    sales = list(
        itertools.islice(online_retail.read_sales(DATA / "online_retail" / "events.csv.gz", skipped), 50_000)
    )
    assert len({online_retail.to_event(sale).event_id for sale in sales}) == 50_000
    times = [sale.at_ms for sale in sales]
    assert times == sorted(times)
    assert skipped["cancellation"] > 0
    assert skipped["malformed line"] == 0


@needs_data
def test_the_real_icecat_file_is_read_whole() -> None:
    skipped: Counter[str] = Counter()
    items = list(icecat.read_items(DATA / "icecat" / "products.jsonl.gz", skipped))
    assert len(items) == 19_406
    assert not skipped
    for item in items[:500]:
        decode_item(item.item_id.encode(), msgspec.json.encode(item))
