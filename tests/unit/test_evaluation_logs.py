"""Logs of any shop as sessions, and what is said of rows and columns that cannot be used."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from stream.core.policy import Policy
from stream.errors import WrongFile
from stream.evaluation.log import BadRows, Format, detect_format, parse_columns, parse_time, read_log
from stream.evaluation.sessions import Session, Step, in_order, texts
from stream.importers import online_retail

MARCH = 1_709_251_200_000  # 2024-03-01


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def read(path: Path, **options: object) -> tuple[list[Session], BadRows]:
    bad = BadRows()
    return read_log([path], bad, **options), bad  # type: ignore[arg-type]


def test_columns_of_common_names_are_found(tmp_path: Path) -> None:
    path = written(
        tmp_path / "log.csv",
        "User_ID,sku,timestamp,Event,title,session,price\n"
        "u1,a,2024-03-01 00:00:05,view,Red Mug,s1,2.5\n"
        "u1,b,2024-03-01T00:01:00+00:00,addtocart,,s1,\n",
    )
    [session], bad = read(path)
    assert (session.session_id, session.user_id) == ("u1/s1", "u1")
    assert session.steps == (
        Step("a", MARCH + 5_000, "view_item", 1, 2.5, "Red Mug"),
        Step("b", MARCH + 60_000, "add_to_cart", 1, None, ""),
    )
    assert not bad.count


def test_a_mapping_says_which_column_is_which(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "wer,was,wann\nu1,a,1709251200\n")
    [session], _ = read(path, columns=parse_columns("user=wer,item=was,time=wann"))
    assert session.steps == (Step("a", MARCH, "view_item"),)


def test_without_a_session_column_a_pause_begins_a_new_session(tmp_path: Path) -> None:
    lines = [f"u1,i{number},{MARCH + minute * 60_000}" for number, minute in enumerate((0, 29, 60, 100))]
    path = written(tmp_path / "log.csv", "\n".join(["user,item,time", *lines, ""]))
    sessions, _ = read(path, policy=Policy(session_gap_minutes=30.0))
    assert [session.items for session in sessions] == [["i0", "i1"], ["i2"], ["i3"]]
    sessions, _ = read(path, policy=Policy(session_gap_minutes=35.0))
    assert [session.items for session in sessions] == [["i0", "i1", "i2"], ["i3"]]


def test_rows_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", f"user,item,time\nu,b,{MARCH + 9}\nu,a,{MARCH}\nv,c,{MARCH + 5}\n")
    sessions, _ = read(path)
    assert [session.items for session in sessions] == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("u,,1709251200,view,1", "no item (column item)"),
        (",a,1709251200,view,1", "neither a user (column user) nor a session"),
        ("u,a,yesterday,view,1", "not a time (column time): ISO 8601 or a number since 1970 is"),
        ("u,a,1709251200,stare,1", "unknown kind of event (column type)"),
        ("u,a,1709251200,view,cheap", "not a price (column price)"),
        ("u,a,1709251200,view,-1", "not a price (column price)"),
        ("u,a,1709251200", "a line has not 5 columns"),
    ],
)
def test_a_bad_row_is_counted_with_its_place_and_never_fatal(tmp_path: Path, row: str, reason: str) -> None:
    path = written(tmp_path / "log.csv", f"user,item,time,type,price\nu,a,1709251200,view,1\n{row}\n")
    sessions, bad = read(path)
    assert len(sessions) == 1
    assert dict(bad.count) == {reason: 1}
    assert "line 3" in bad.lines()[0]


def test_a_log_of_bad_rows_alone_says_what_is_wrong(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "user,item,time\nu,a,soon\n")
    with pytest.raises(WrongFile, match=r"no row can be used.*not a time.*--columns"):
        read(path)


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", "who,item,time\nu,a,1\n")
    with pytest.raises(WrongFile, match=r"which column is the user\? It has who, item, time.*user=COLUMN"):
        read(path)
    with pytest.raises(WrongFile, match=r"no column whom .*did you mean who\?"):
        read(path, columns={"user": "whom"})


def test_a_mapping_that_cannot_be_read_says_how_it_looks() -> None:
    with pytest.raises(ValueError, match=r"'user' is not NAME=COLUMN"):
        parse_columns("user")
    with pytest.raises(ValueError, match=r"'usr' is not what a log has; did you mean user\?"):
        parse_columns("usr=x")


def test_a_file_that_is_no_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(WrongFile, match=r"log.csv: neither CSV"):
        read(path)
    with pytest.raises(WrongFile, match="empty"):
        read(written(path, ""))


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow, of the extra `evaluate`")
    parquet = pytest.importorskip("pyarrow.parquet", reason="as above")
    times = pyarrow.array([MARCH * 1_000, MARCH * 1_000 + 7_000], pyarrow.timestamp("us"))
    table = pyarrow.table({"visitorid": [1.0, 1.0], "itemid": [11, 12], "time": times})
    path = tmp_path / "log.parquet"
    parquet.write_table(table, path)
    assert detect_format(path) is Format.PARQUET
    [session], _ = read(path)
    assert session.steps == (Step("11", MARCH, "view_item"), Step("12", MARCH + 7, "view_item"))
    assert session.user_id == "1"


@pytest.mark.parametrize(
    ("said", "at_ms"),
    [
        ("1709251200", MARCH),
        ("1709251200000", MARCH),
        ("1709251200000000", MARCH),
        ("1709251200.5", MARCH + 500),
        ("2024-03-01", MARCH),
        ("2024-03-01T01:00:00+01:00", MARCH),
        (1_709_251_200, MARCH),
        ("", None),
        ("nan", None),
        ("12", None),
        (None, None),
    ],
)
def test_times_are_read_by_their_size_or_as_iso_8601(said: object, at_ms: int | None) -> None:
    assert parse_time(said) == at_ms


RETAIL = [
    "1,10001a,MUG,1,2010-01-01 10:00,2.5,7,France",
    "1,10002,CUP,1,2010-01-01 10:00,2.5,7,France",
    "1,10001A,MUG,1,2010-01-01 10:00,2.5,7,France",
    "C2,10001,MUG,-1,2010-01-01 10:00,2.5,7,France",
    "3,POST,POSTAGE,1,2010-01-01 10:01,2.5,7,France",
    "3,10003,PLATE,1,2010-01-01 10:01,2.5,,France",
]


def retail(path: Path, rows: list[str]) -> Path:
    path.write_bytes(gzip.compress("\n".join([",".join(online_retail.COLUMNS), *rows, ""]).encode()))
    return path


def test_online_retail_is_known_by_its_columns(tmp_path: Path) -> None:
    path = retail(tmp_path / "events.csv.gz", RETAIL)
    assert detect_format(path) is Format.ONLINE_RETAIL
    sessions, bad = read(path)
    assert [(session.session_id, session.user_id, session.items) for session in sessions] == [
        ("1", "7", ["10001A", "10002"]),
        ("3", "", ["10003"]),
    ]
    assert sessions[1].shopper == "guest-3"
    assert sum(bad.count.values()) == 2


def test_an_earlier_and_a_later_part_make_one_log(tmp_path: Path) -> None:
    early, late = retail(tmp_path / "1.csv.gz", RETAIL[:2]), retail(tmp_path / "2.csv.gz", RETAIL[2:])
    whole = retail(tmp_path / "whole.csv.gz", RETAIL)
    joined, expected = (read_log(parts, BadRows()) for parts in ([early, late], [whole]))
    assert joined == expected


def test_sessions_of_one_minute_keep_their_order() -> None:
    sessions = [Session(name, "", (Step("a", at_ms),)) for name, at_ms in (("x", 59_000), ("y", 1_000))]
    assert [session.session_id for session in in_order(sessions)] == ["x", "y"]


def test_an_items_first_text_is_the_one_that_counts() -> None:
    steps = (Step("a", 1), Step("b", 2, text="Cup"), Step("a", 3, text="Mug"), Step("a", 4, text="Old Mug"))
    assert texts([Session("s", "", steps)]) == ["Cup", "Mug"]
