"""Texts to compress a model by: of prepared data, or of any file that the evaluations read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from model_factory.evaluation import inputs

Kind = Literal["query", "product", "offer"]

MAX_CHARS = 512
"""What is kept of a text: more than the encoders read of nearly all."""


class Text(NamedTuple):
    text: str
    kind: Kind


def read(places: Sequence[Path]) -> list[Text]:
    """Read distinct texts, in the order in which they come.

    Args:
        places: folders of `model-factory prepare`, of which what trains is read, without the graded
            queries; products (.jsonl, .jsonl.gz), offers (.csv, .csv.gz) or a text a line (.txt).

    Raises:
        typer.BadParameter: one is none of these, or there is no text.
    """
    kinds: dict[str, Kind] = {}
    for place in places:
        for text, kind in _prepared(place) if place.is_dir() else _file(place):
            cut = text[:MAX_CHARS].strip()
            if cut:
                kinds.setdefault(cut, kind)
    if not kinds:
        raise typer.BadParameter(f"{', '.join(map(str, places))}: no text is in it.")
    return [Text(text, kind) for text, kind in kinds.items()]


def _prepared(folder: Path) -> Iterator[tuple[str, Kind]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise typer.BadParameter(f"{error.name} is missing: pip install 'streamrec[train]'") from None
    columns: tuple[tuple[str, str, Kind], ...] = (
        ("products", "text", "product"),
        ("offers", "title", "offer"),
    )
    for name, column, kind in columns:
        if not (folder / f"{name}.parquet").is_file():
            raise typer.BadParameter(f"{folder} holds no {name}.parquet: `model-factory prepare` writes it.")
        table = parquet.read_table(
            folder / f"{name}.parquet", columns=[column], filters=[("split", "=", "train")]
        )
        yield from ((text, kind) for text in table[column].to_pylist())
    queries = parquet.read_table(
        folder / "pairs.parquet",
        columns=["anchor"],
        filters=[("split", "=", "train"), ("objective", "=", "query")],
    )
    yield from ((text, "query") for text in queries["anchor"].to_pylist())


def _file(path: Path) -> Iterator[tuple[str, Kind]]:
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        yield from ((product.text, "product") for product in inputs.read_products(path))
    elif name.endswith(".csv"):
        yield from ((offer.title, "offer") for offer in inputs.read_offers(path))
    elif name.endswith(".txt") and path.is_file():
        yield from ((line, "product") for line in path.read_text(encoding="utf-8").splitlines())
    else:
        raise typer.BadParameter(
            f"{path} is no folder of prepared data and no file of products (.jsonl), "
            "offers (.csv) or lines (.txt)."
        )
