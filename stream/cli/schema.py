"""`streamrec schema`: the contract as JSON Schema and AsyncAPI 3."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.cli.options import Json, print_json, say


def write_schema(
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.", file_okay=False)] = Path(
        "docs"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 where something is stale.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a JSON Schema of each message, and the AsyncAPI document of the topics.

    \b
    Examples:
      streamrec schema
      streamrec schema --out docs --check
    """
    from stream.schema import stale, write

    if check:
        found = stale(out)
        if json:
            print_json({"stale": [str(path) for path in found]})
        else:
            for path in found:
                say(f"{path} is stale: `streamrec schema --out {out}` writes it")
        raise typer.Exit(1 if found else 0)
    written = write(out)
    if json:
        print_json({"written": [str(path) for path in written]})
    else:
        for path in written:
            print(path)
