"""`streamrec user`: what is remembered of one shopper, and forgetting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import ConfigFile, Json, print_json, run
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.core.events import RecommendationList
    from stream.core.state import UserState

app = typer.Typer(
    help="See or erase what is stored of one shopper.", no_args_is_help=True, rich_markup_mode=None
)

UserId = Annotated[str, typer.Argument(metavar="USER_ID", help="The shopper's id.")]


@app.command()
def show(user_id: UserId, config: ConfigFile = None, json: Json = False) -> None:
    """Show a shopper's state and last list.

    \b
    Examples:
      streamrec user show shopper-0001
      streamrec user show shopper-0001 --json
    """
    run(_show(load_config(config), user_id, json))


@app.command()
def erase(user_id: UserId, config: ConfigFile = None, json: Json = False) -> None:
    """Erase a shopper's state, last list and reordered search results, and say what was removed.

    A list's null value tells readers to forget it. The shopper's events, and what came of lists, stay on
    their topics until those topics' retention removes them; an event that arrives later begins a new state.

    \b
    Examples:
      streamrec user erase shopper-0001
    """
    run(_erase(load_config(config), user_id, json))


async def _show(config: Config, user_id: str, json: bool) -> None:
    from stream.cli.reading import clock, list_lines, read_titles

    state = await _state(config, user_id)
    made = await _last_list(config, user_id)
    if json:
        print_json({"user_id": user_id, "state": _plain(state), "list": made})
        return
    if state.sequence == 0 and not any((state.interactions, state.searches, state.owned)):
        print(f"{user_id}: no state is stored")
    else:
        titles = await read_titles(config)
        print(f"{user_id}: {state.sequence} lists were made")
        print(f"interactions ({len(state.interactions)}), newest first:")
        for done in reversed(state.interactions):
            title = titles.get(done.item_id, "")
            print(f"  {clock(done.at_ms)}  {done.event_type:<16} {done.item_id:<12} {title}")
        print(f"searches ({len(state.searches)}), newest first:")
        for search in reversed(state.searches):
            print(f"  {clock(search.at_ms)}  {search.query}")
        print(f"bought ({len(state.owned)}), newest first:")
        for owned in reversed(state.owned):
            print(f"  {clock(owned.at_ms)}  {owned.item_id:<12} {titles.get(owned.item_id, '')}")
    if made is None:
        print("no list is published")
    else:
        print("last list:")
        print("\n".join(list_lines(made, await read_titles(config))))


async def _erase(config: Config, user_id: str, json: bool) -> None:
    from stream.adapters.kafka_clients import producer
    from stream.adapters.kafka_reading import keys_beginning, partition_of
    from stream.adapters.redis_client import connect
    from stream.adapters.redis_kept_lists import RedisKeptLists
    from stream.adapters.redis_state import RedisStateStore
    from stream.core.events import results_key

    state = await _state(config, user_id)
    made = await _last_list(config, user_id)
    async with connect(config.redis) as client:
        store = RedisStateStore(client, config.redis.key_prefix, config.redis.user_ttl_days)
        erased = await store.erase(user_id)
        kept = RedisKeptLists(client, config.policy.attribution_hours, config.redis.key_prefix)
        await kept.erase(user_id)
    async with producer(config.kafka) as sender:
        topic, key = config.topics.recommendations, user_id.encode()
        results = await keys_beginning(config.kafka, topic, results_key(user_id, ""), key)
        partition = partition_of(key, len(await sender.partitions_for(topic)))
        # The user's own key also where no list was found: one may have been published since.
        for one in (key, *results):
            await sender.send_and_wait(topic, None, key=one, partition=partition)
    if json:
        print_json(
            {
                "user_id": user_id,
                "state_erased": erased,
                "list_erased": made is not None,
                "results_erased": len(results),
            }
        )
        return
    if erased:
        print(
            f"erased the state of {user_id}: {len(state.interactions)} interactions, "
            f"{len(state.searches)} searches, {len(state.owned)} bought items"
        )
    else:
        print(f"no state of {user_id} was stored")
    print(f"erased list {made.sequence}" if made else "no list was published")
    if results:
        print(f"erased the reordered results of {len(results)} placements")


async def _state(config: Config, user_id: str) -> UserState:
    from stream.adapters.redis_client import connect
    from stream.adapters.redis_state import RedisStateStore

    async with connect(config.redis) as client:
        store = RedisStateStore(client, config.redis.key_prefix, config.redis.user_ttl_days)
        return (await store.load([user_id]))[user_id]


async def _last_list(config: Config, user_id: str) -> RecommendationList | None:
    import msgspec

    from stream.adapters.kafka_reading import last_value
    from stream.core.events import RecommendationList

    value = await last_value(config.kafka, config.topics.recommendations, user_id.encode())
    return None if value is None else msgspec.json.decode(value, type=RecommendationList)


def _plain(state: UserState) -> dict[str, Any]:
    """A state with its facts named, as it is printed for programs."""
    return {
        "sequence": state.sequence,
        "interactions": [
            {"at_ms": i.at_ms, "item_id": i.item_id, "event_type": i.event_type} for i in state.interactions
        ],
        "searches": [{"at_ms": s.at_ms, "query": s.query} for s in state.searches],
        "owned": [{"at_ms": o.at_ms, "item_id": o.item_id} for o in state.owned],
    }
