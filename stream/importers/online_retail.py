"""UCI Online Retail II: the sales lines of a UK gift shop, as products and as purchase events.

Format: gzipped CSV, in time order, `invoice, stock_code, description, quantity, ts, unit_price,
customer_id, country`; `ts` is a minute without a zone, taken as UTC. A customer id that is empty is a
guest, who is known for one invoice only. The file holds sales and no views or searches.
Source: Chen, Sain, Guo 2012, doi:10.1057/dbm.2012.17 (CC BY 4.0).
"""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from stream.core.events import ClickMessage, ItemMessage
from stream.errors import WrongFile

COLUMNS = ("invoice", "stock_code", "description", "quantity", "ts", "unit_price", "customer_id", "country")
CURRENCY = "GBP"
MALFORMED = "malformed line"
LINE_GAP_MS = 10
"""Between two lines of one minute, so that their order stays; the fullest minute has 705 lines."""

_PRODUCT_CODE = re.compile(r"\d{5}")


class Sale(NamedTuple):
    """One line of an invoice that is a sale of a product.

    `row` counts the lines of the file from 1, without the header; `line` those of the invoice.
    """

    row: int
    line: int
    invoice: str
    stock_code: str
    title: str
    quantity: int
    price: float
    at_ms: int
    customer_id: str


def read_sales(
    path: Path,
    skipped: Counter[str],
    *,
    after_row: int = 0,
    from_ms: int | None = None,
    to_ms: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Sale]:
    """Read the sales of products in file order.

    Args:
        skipped: counts, by reason, the lines that are none.
        after_row: leave out, uncounted, the rows up to this one.
        from_ms, to_ms: only sales from this epoch ms on, and before that one.
        progress: is told the bytes of the compressed file read so far, every thousand lines.

    Raises:
        WrongFile: it cannot be read, or its columns are others.
    """
    try:
        with path.open("rb") as raw, gzip.open(raw, "rt", encoding="utf-8", newline="") as text:
            reader = csv.reader(text)
            header = tuple(next(reader, ()))
            if header != COLUMNS:
                raise WrongFile(f"{path}: the columns are {', '.join(header)}; expected {', '.join(COLUMNS)}")
            minute, minute_ms, place = "", None, 0
            lines: Counter[str] = Counter()
            for row, cells in enumerate(reader, 1):
                if progress is not None and row % 1000 == 0:
                    progress(raw.tell())
                if len(cells) != len(COLUMNS):
                    skipped[MALFORMED] += row > after_row
                    continue
                if cells[4] != minute:
                    minute, minute_ms, place = cells[4], _epoch_ms(cells[4]), 0
                place += 1
                lines[cells[0]] += 1
                if row <= after_row:
                    continue
                at_ms = None if minute_ms is None else minute_ms + (place - 1) * LINE_GAP_MS
                sale = _sale(cells, row, lines[cells[0]], at_ms)
                if isinstance(sale, str):
                    skipped[sale] += 1
                    continue
                if to_ms is not None and sale.at_ms >= to_ms:
                    return
                if from_ms is None or sale.at_ms >= from_ms:
                    yield sale
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise WrongFile(f"{path}: not a readable gzipped CSV file ({error})") from error


def to_event(sale: Sale) -> ClickMessage:
    """Turn a sale into the purchase event that it is; the same sale always gets the same event id."""
    return ClickMessage(
        event_id=f"online-retail-{sale.invoice}-{sale.line}",
        event_type="purchase",
        event_time=sale.at_ms,
        user_id=sale.customer_id or f"guest-{sale.invoice}",
        item_id=sale.stock_code,
        session_id=sale.invoice,
        price=sale.price,
        quantity=sale.quantity,
        currency=CURRENCY,
    )


def read_items(
    path: Path, skipped: Counter[str], progress: Callable[[int], None] | None = None
) -> list[ItemMessage]:
    """Read the products sold: the title most often given, the last price. The file has no categories.

    Raises:
        WrongFile: as `read_sales`.
    """
    titles: defaultdict[str, Counter[str]] = defaultdict(Counter)
    prices: dict[str, float] = {}
    for sale in read_sales(path, skipped, progress=progress):
        counted = titles[sale.stock_code]
        if sale.title:
            counted[sale.title] += 1
        prices[sale.stock_code] = sale.price
    items = []
    for code, counted in titles.items():
        if not counted:
            skipped["product without any title"] += 1
            continue
        items.append(
            ItemMessage(
                item_id=code, title=counted.most_common(1)[0][0], price=prices[code], currency=CURRENCY
            )
        )
    return items


def _sale(cells: list[str], row: int, line: int, at_ms: int | None) -> Sale | str:
    """The sale on a line, or the reason why it is none."""
    invoice, code, description, quantity_text, _, price_text, customer_id, _ = cells
    if invoice.startswith("C"):
        return "cancellation"
    if invoice.startswith("A"):
        return "accounting entry"
    if not _PRODUCT_CODE.match(code):
        return "postage, fee or other code that is no product"
    try:
        quantity, price = int(quantity_text), float(price_text)
    except ValueError:
        return MALFORMED
    if at_ms is None:
        return MALFORMED
    if quantity <= 0:
        return "quantity not positive"
    if not (price > 0 and math.isfinite(price)):
        return "price not positive"
    title = " ".join(description.split())
    return Sale(row, line, invoice, code, title, quantity, price, at_ms, customer_id.strip())


def _epoch_ms(minute: str) -> int | None:
    """A minute of the file, which has no zone, taken as UTC; None where it is no time."""
    try:
        return int(datetime.fromisoformat(minute).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None
