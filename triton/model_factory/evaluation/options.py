"""The options that evaluations share, as Typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Products = Annotated[Path, typer.Option(help="JSON lines (.gz too): id, title, description, brand.")]
Qrels = Annotated[Path, typer.Option(help="CSV: query, product_id, grade (0 to 3).")]
Encoder = Annotated[
    Path | None,
    typer.Option(help="Folder of model.onnx and tokenizer.json; else the highest version served."),
]
CrossEncoder = Annotated[
    Path | None,
    typer.Option(help="Folder of model.onnx and tokenizer.json; else the highest version, if any."),
]
Threads = Annotated[int, typer.Option(help="Threads of one forward.", min=1)]
Cache = Annotated[Path | None, typer.Option(help="Folder to keep vectors in between runs.")]
Json = Annotated[
    str | None, typer.Option("--json", help="Write the figures to this file; - for standard output.")
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")]
