"""`streamrec rebuild`: fold shoppers' events into their states again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import ConfigFile, Json, print_json, run, say
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.healing.rebuilding import Rebuilder


def rebuild(
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="USER_ID", help="Only this shopper.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; save nothing.")] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Fold the events that lie in the topics into the shoppers' states again, and say whose lacked some.

    Workers do this by themselves where Redis came back older or empty. This is for what they cannot know of:
    keys that were deleted, evicted or restored one by one. Workers may run meanwhile; what they have not
    done yet is left to them. No lists are made: a shopper's next event leads to one. What was erased stays
    erased while Redis has the mark of it. All of the topics is read, for one shopper too.

    \b
    Examples:
      streamrec rebuild --dry-run
      streamrec rebuild --user shopper-0001
      streamrec rebuild --json
    """
    settings = load_config(config)
    rebuilder, gone = run(_rebuild(settings, user, dry_run=dry_run))
    repaired = len(rebuilder.repaired)
    if json:
        print_json(
            {
                "dry_run": dry_run,
                "events": rebuilder.events,
                "invalid": rebuilder.invalid,
                "repaired": repaired,
                "missing": gone,
            }
        )
        return
    print(f"{rebuilder.events} events folded, {repaired} states {'would be ' * dry_run}repaired")
    if rebuilder.invalid:
        say(f"{rebuilder.invalid} messages are no events: they lie on {settings.topics.dead_letters}")
    if gone:
        say(f"{gone} messages that workers have done are in the topics no longer")


async def _rebuild(config: Config, user_id: str | None, *, dry_run: bool) -> tuple[Rebuilder, int]:
    from stream.adapters.kafka_events import events_done
    from stream.adapters.redis_client import connect
    from stream.adapters.redis_state import RedisStateStore
    from stream.cli.progress import progress_bar
    from stream.healing.rebuilding import Rebuilder

    gone = 0
    async with connect(config.redis) as client:
        rebuilder = Rebuilder(
            RedisStateStore(
                client,
                config.redis.key_prefix,
                config.redis.user_ttl_days,
                config.redis.newcomer_ttl_days,
            ),
            config.policy,
            searches_topic=config.topics.searches,
            user_id=user_id,
            dry_run=dry_run,
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        with progress_bar("folding events", None) as progress:
            async for read in events_done(config, user_id):
                await rebuilder.fold(read.messages)
                gone = read.gone
                progress(read.done, f"{read.done} of {read.total}")
    return rebuilder, gone
