"""`streamrec watch`: follow the lists as they are made."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.cli.options import ConfigFile, run
from stream.config import Config, load_config


def watch(
    user: Annotated[str | None, typer.Option("--user", help="Only this shopper's lists.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Start with the lists that are there already.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many lists.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Show this many items of each list.")] = 10,
    config: ConfigFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print the messages as JSON lines.")] = False,
) -> None:
    """Follow the lists until Ctrl-C.

    \b
    Examples:
      streamrec watch
      streamrec watch --user shopper-0001 --from-beginning
      streamrec watch --json --limit 100 > lists.jsonl
    """
    run(_watch(load_config(config), user, from_beginning, limit, None if json else top))


async def _watch(
    config: Config, user: str | None, from_beginning: bool, limit: int | None, top: int | None
) -> None:
    """Print lists; `top` is None where they are printed as they are."""
    import sys

    import msgspec

    from stream.adapters.kafka_reading import partitions
    from stream.cli.reading import list_lines, read_titles
    from stream.core.events import RecommendationList

    decoder = msgspec.json.Decoder(RecommendationList)
    titles = await read_titles(config) if top is not None else {}
    key = None if user is None else user.encode()
    topic = config.topics.recommendations
    async with partitions(config.kafka, topic, key, at_end=not from_beginning) as (reader, _):
        seen = 0
        async for message in reader:
            if message.value is None or key not in (None, message.key):
                continue
            if top is None:
                sys.stdout.write(message.value.decode() + "\n")
            else:
                print("\n".join(list_lines(decoder.decode(message.value), titles, top)))
            sys.stdout.flush()
            seen += 1
            if seen == limit:
                return
