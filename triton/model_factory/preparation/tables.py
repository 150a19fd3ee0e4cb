"""Write and hash the prepared tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROWS_HASHED = 1_000
STRINGS = "list<string>"
COLUMNS: dict[str, dict[str, str]] = {
    "products": {
        "item_id": "string",
        "title": "string",
        "description": "string",
        "brand": "string",
        "category": "string",
        "attributes": "string",
        "text": "string",
        "cluster": "int64",
        "split": "string",
        "source": "string",
    },
    "pairs": {
        "anchor": "string",
        "positive": "string",
        "negatives": STRINGS,
        "objective": "string",
        "source": "string",
        "group": "string",
        "category": "string",
        "split": "string",
    },
    "graded": {"query": "string", "item_id": "string", "text": "string", "grade": "int64", "fold": "int64"},
    "offers": {
        "offer_id": "string",
        "title": "string",
        "cluster": "string",
        "category": "string",
        "split": "string",
    },
    "queries": {"query": "string"},
}
"""The tables and the types of their columns; `attributes` is JSON text."""

Row = Mapping[str, Any]


def write(folder: Path, name: str, rows: Sequence[Row]) -> str:
    """Write one table as Parquet, also where it is empty; return the SHA-256 of its content.

    The content is hashed, not the file: another version of the library may write other bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"string": pa.string(), "int64": pa.int64(), STRINGS: pa.list_(pa.string())}
    columns = COLUMNS[name]
    schema = pa.schema([(column, types[kind]) for column, kind in columns.items()])
    arrays = {column: [row[column] for row in rows] for column in columns}
    pq.write_table(pa.table(arrays, schema=schema), folder / f"{name}.parquet", compression="zstd")
    digest = hashlib.sha256(json.dumps(columns).encode())
    for start in range(0, len(rows), ROWS_HASHED):
        values = [[row[column] for column in columns] for row in rows[start : start + ROWS_HASHED]]
        digest.update(json.dumps(values, ensure_ascii=False).encode())
    return digest.hexdigest()


def data_hash(parts: Mapping[str, Any]) -> str:
    """Return one SHA-256 of inputs, arguments and outputs together."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
