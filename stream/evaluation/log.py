"""Logs of shops as sessions: Online Retail II, and any CSV or Parquet file of (user, item, time).

A row that cannot be used is counted by reason, with the first of its kind as an example, and left out.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, NamedTuple

from stream.core.events import EARLIEST_MS, LATEST_MS, MAX_ID_CHARS, EventType
from stream.core.policy import MINUTE_MS, Policy
from stream.errors import WrongFile
from stream.evaluation.sessions import Session, Step, in_order, split_by_pauses
from stream.importers.online_retail import COLUMNS as ONLINE_RETAIL_COLUMNS
from stream.importers.online_retail import read_sales

Progress = Callable[[int], None]


class Format(StrEnum):
    """How a log is written."""

    ONLINE_RETAIL = "online-retail"
    CSV = "csv"
    PARQUET = "parquet"


class Columns(NamedTuple):
    """Which column of a file holds what; None where it has none."""

    user: str
    item: str
    time: str
    type: str | None = None
    text: str | None = None
    session: str | None = None
    price: str | None = None


COMMON_NAMES: Mapping[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userid", "customer", "customer_id", "visitor_id", "visitorid"),
    "item": ("item", "item_id", "itemid", "product", "product_id", "sku", "stock_code"),
    "time": ("time", "timestamp", "event_time", "ts", "date"),
    "type": ("type", "event_type", "event"),
    "text": ("text", "title", "description", "name"),
    "session": ("session", "session_id", "sessionid", "order_id", "invoice"),
    "price": ("price", "unit_price"),
}
"""What columns are taken for where no mapping names them, in any case of letters."""

EVENT_TYPES: Mapping[str, EventType] = {
    **dict.fromkeys(("view_item", "view", "pageview", "detail", "impression_click"), "view_item"),
    **dict.fromkeys(("select_item", "select", "click"), "select_item"),
    **dict.fromkeys(("add_to_cart", "addtocart", "cart", "add"), "add_to_cart"),
    **dict.fromkeys(("remove_from_cart", "removefromcart", "remove"), "remove_from_cart"),
    **dict.fromkeys(("purchase", "transaction", "buy", "order", "sale"), "purchase"),
}
"""What the words of a log mean, in any case of letters."""


class BadRows:
    """How many rows were left out, by reason, and the first of each."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, place: str) -> None:
        """Count a row; `place` says where it is and what stands there."""
        self.count[reason] += 1
        self.first.setdefault(reason, place)

    def lines(self) -> list[str]:
        """What people read: one line for each reason, the commonest first."""
        return [
            f"{count:>8}  {reason}" + (f" (first: {self.first[reason]})" if reason in self.first else "")
            for reason, count in self.count.most_common()
        ]


def detect_format(path: Path) -> Format:
    """Say how a log is written, by its first bytes and its header.

    Raises:
        WrongFile: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return Format.PARQUET
        with _text(path) as text:
            header = next(csv.reader(text), [])
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise WrongFile(f"{path}: neither CSV (perhaps gzipped) nor Parquet ({error})") from None
    return Format.ONLINE_RETAIL if tuple(header) == ONLINE_RETAIL_COLUMNS else Format.CSV


def parse_columns(mapping: str) -> dict[str, str]:
    """Read `user=customer_id,item=sku,time=ts`.

    Raises:
        ValueError: a part is not NAME=COLUMN, or there is no such name; says which there are.
    """
    columns: dict[str, str] = {}
    for part in filter(None, mapping.split(",")):
        name, separator, column = (word.strip() for word in part.partition("="))
        if not separator or not column:
            raise ValueError(f"{part!r} is not NAME=COLUMN, as in user=customer_id")
        if name not in Columns._fields:
            near = difflib.get_close_matches(name, Columns._fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(Columns._fields)}"
            raise ValueError(f"{name!r} is not what a log has; {hint}")
        columns[name] = column
    return columns


def read_log(
    paths: Sequence[Path],
    bad: BadRows,
    *,
    format: Format | None = None,
    columns: Mapping[str, str] | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> list[Session]:
    """Read files that belong together, such as an earlier and a later part of one log, as sessions in order.

    Args:
        bad: counts the rows that are left out.
        format: of all files; by default that of each is detected.
        columns: which column holds what, for CSV and Parquet; the others go by `COMMON_NAMES`.
        policy: whose `session_gap_minutes` cuts sessions where no column names them.
        progress: is told the bytes read so far, of all files together.

    Raises:
        WrongFile: a file cannot be read, lacks a column, or no row of them all can be used.
    """
    policy = policy or Policy()
    retail: list[Path] = []
    rows: list[_Row] = []
    done = 0
    for path in paths:
        how = format or detect_format(path)
        if how is Format.ONLINE_RETAIL:
            retail.append(path)
        else:
            for_this = None if progress is None else _after(done, progress)
            rows.extend(_read_rows(path, how, columns or {}, bad, for_this))
            done += path.stat().st_size
    if retail and rows:
        raise WrongFile(f"{retail[0]}: Online Retail's columns, unlike the other files; give them apart")
    if retail:
        sessions = read_online_retail(retail, bad, progress)
    else:
        sessions = _sessions(rows, int(policy.session_gap_minutes * MINUTE_MS))
    if not sessions:
        worst = bad.lines()
        raise WrongFile(
            f"{', '.join(map(str, paths))}: no row can be used"
            + (f"; {worst[0].strip()}; --columns says which column holds what" if worst else "")
        )
    return sessions


def read_online_retail(
    paths: Sequence[Path], bad: BadRows | None = None, progress: Progress | None = None
) -> list[Session]:
    """Read the sales of products: a session is an invoice, its steps are its lines without repeats.

    Lines of cancellations and accounting entries, of codes that do not begin with five digits, and without a
    positive quantity and price are no sales. Stock codes are taken in capitals.

    Raises:
        WrongFile: a file cannot be read, or its columns are others.
    """
    invoices: dict[str, tuple[str, dict[str, Step]]] = {}
    skipped: Counter[str] = Counter()
    done = 0
    for path in paths:
        for sale in read_sales(path, skipped, progress=None if progress is None else _after(done, progress)):
            steps = invoices.setdefault(sale.invoice, (sale.customer_id, {}))[1]
            code = sale.stock_code.upper()
            steps.setdefault(code, Step(code, sale.at_ms, "purchase", sale.quantity, sale.price, sale.title))
        done += path.stat().st_size
    if bad is not None:
        bad.count.update(skipped)
    return in_order(
        Session(invoice, user_id, _rising(steps.values())) for invoice, (user_id, steps) in invoices.items()
    )


class _Row(NamedTuple):
    user_id: str
    session_id: str
    step: Step


def _sessions(rows: Iterable[_Row], gap_ms: int) -> list[Session]:
    """Group rows by shopper and session; where no session is named, pauses cut."""
    named: defaultdict[tuple[str, str], list[Step]] = defaultdict(list)
    for row in rows:
        named[row.user_id, row.session_id].append(row.step)
    sessions: list[Session] = []
    for (user_id, session_id), steps in named.items():
        steps.sort(key=lambda step: step.at_ms)
        if session_id:
            name = f"{user_id}/{session_id}" if user_id else session_id
            sessions.append(Session(name, user_id, tuple(steps)))
        else:
            sessions.extend(split_by_pauses(user_id, user_id, steps, gap_ms))
    sessions.sort(key=lambda session: (session.steps[0].at_ms, session.session_id))
    return in_order(sessions)


def _read_rows(
    path: Path, how: Format, mapping: Mapping[str, str], bad: BadRows, progress: Progress | None
) -> Iterator[_Row]:
    """Read the rows of one file that can be used."""
    if how is Format.ONLINE_RETAIL:
        raise WrongFile(f"{path}: its columns are not those of Online Retail; leave --format out")
    header, records = _csv_records(path, progress) if how is Format.CSV else _parquet_records(path, progress)
    columns = _resolved(path, header, mapping)
    places = [None if name is None else header.index(name) for name in columns]
    for where, cells in records:
        if len(cells) != len(header):
            bad.add(f"a line has not {len(header)} columns", f"{path.name}, {where}: {len(cells)}")
            continue
        values = [None if place is None else cells[place] for place in places]
        row = _row(columns, values)
        if isinstance(row, _Row):
            yield row
        else:
            reason, value = row
            bad.add(reason, f"{path.name}, {where}: {value!r}")


def _row(columns: Columns, values: Sequence[Any]) -> _Row | tuple[str, Any]:
    """The row, or why it cannot be used and what stood there."""
    user, item, time, kind, text, session, price = values
    user_id, item_id, session_id = (_word(value) for value in (user, item, session))
    if not item_id:
        return f"no item (column {columns.item})", item
    if not user_id and not session_id:
        return f"neither a user (column {columns.user}) nor a session", user
    if max(len(item_id), len(user_id), len(session_id)) > MAX_ID_CHARS:
        return f"an id longer than {MAX_ID_CHARS} characters", item_id[:40]
    at_ms = parse_time(time)
    if at_ms is None:
        return f"not a time (column {columns.time}): ISO 8601 or a number since 1970 is", time
    event_type = EVENT_TYPES.get(_word(kind).lower()) if columns.type else "view_item"
    if event_type is None:
        return f"unknown kind of event (column {columns.type})", kind
    try:
        cost = float(price) if price not in (None, "") else None
    except ValueError:
        cost = math.nan
    if cost is not None and not (math.isfinite(cost) and cost >= 0):
        return f"not a price (column {columns.price})", price
    return _Row(user_id, session_id, Step(item_id, at_ms, event_type, 1, cost, " ".join(_word(text).split())))


def parse_time(value: Any) -> int | None:
    """Read a time as epoch milliseconds, None where it is none.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, by their size; texts are
    ISO 8601, in UTC where they name no zone.
    """
    if isinstance(value, datetime):
        moment = value
    else:
        try:
            number = float(value)
        except (TypeError, ValueError):
            try:
                moment = datetime.fromisoformat(str(value).strip())
            except ValueError:
                return None
        else:
            if not math.isfinite(number):
                return None
            at_ms = number * 1000
            while at_ms > LATEST_MS:
                at_ms /= 1000
            return int(at_ms) if at_ms >= EARLIEST_MS else None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _resolved(path: Path, header: list[str], mapping: Mapping[str, str]) -> Columns:
    """Find the columns by the mapping, else by their common names."""
    lower = {name.lower(): name for name in reversed(header)}
    found: dict[str, str | None] = {}
    for name in Columns._fields:
        if name in mapping:
            column = mapping[name]
            if column not in header:
                near = difflib.get_close_matches(column, header, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(header)}"
                raise WrongFile(f"{path}: no column {column} (--columns {name}={column}); {hint}")
            found[name] = column
        else:
            found[name] = next((lower[word] for word in COMMON_NAMES[name] if word in lower), None)
    missing = [name for name in ("user", "item", "time") if found[name] is None]
    if missing:
        wanted = ",".join(f"{name}=COLUMN" for name in missing)
        raise WrongFile(
            f"{path}: which column is the {' and the '.join(missing)}? It has {', '.join(header)}; "
            f"say --columns {wanted}"
        )
    return Columns(**found)  # type: ignore[arg-type]  # the first three are there


def _csv_records(
    path: Path, progress: Progress | None
) -> tuple[list[str], Iterator[tuple[str, Sequence[Any]]]]:
    def lines() -> Iterator[tuple[str, Sequence[Any]]]:
        try:
            with path.open("rb") as raw, _text(path, raw) as text:
                reader = csv.reader(text)
                yield "header", next(reader, [])
                for row, cells in enumerate(reader, 1):
                    if progress is not None and row % 1000 == 0:
                        progress(raw.tell())
                    if cells:
                        yield f"line {reader.line_num}", cells
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
            raise WrongFile(f"{path}: not a readable CSV file in UTF-8 ({error})") from None

    records = lines()
    _, header = next(records)
    if not header:
        raise WrongFile(f"{path}: empty; the first line names the columns")
    return [name.strip().removeprefix("\ufeff") for name in header], records


def _parquet_records(
    path: Path, progress: Progress | None
) -> tuple[list[str], Iterator[tuple[str, Sequence[Any]]]]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError:
        raise WrongFile(f"{path}: Parquet needs pyarrow: pip install 'streamrec[evaluate]'") from None
    try:
        file = parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise WrongFile(f"{path}: not a readable Parquet file ({error})") from None

    def rows() -> Iterator[tuple[str, Sequence[Any]]]:
        number, size = 0, path.stat().st_size
        try:
            for batch in file.iter_batches():
                columns = [_plain(column) for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield f"row {number}", cells
                if progress is not None:
                    progress(size * number // max(1, file.metadata.num_rows))
        except (OSError, pyarrow.ArrowException) as error:
            raise WrongFile(f"{path}: broken after row {number} ({error})") from None

    return list(file.schema_arrow.names), rows()


def _plain(column: Any) -> list[Any]:
    """An Arrow column as Python values; times as epoch milliseconds."""
    import pyarrow

    if pyarrow.types.is_timestamp(column.type) or pyarrow.types.is_date(column.type):
        column = column.cast(pyarrow.timestamp("ms"), safe=False).cast(pyarrow.int64())
    values: list[Any] = column.to_pylist()
    return values


def _text(path: Path, raw: IO[bytes] | None = None) -> IO[str]:
    """Open a text file, gzipped or not."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    if zipped:
        return gzip.open(raw or path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _word(value: Any) -> str:
    """A cell as text; a whole number that was read as a float is written as a whole number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _rising(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Steps in their order, none earlier than the one before it."""
    rising: list[Step] = []
    for step in steps:
        if rising and step.at_ms < rising[-1].at_ms:
            step = step._replace(at_ms=rising[-1].at_ms)
        rising.append(step)
    return tuple(rising)


def _after(done: int, progress: Progress) -> Progress:
    return lambda read: progress(done + read)
