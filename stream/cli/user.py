"""`streamrec user`: what is remembered of one shopper, giving it out, and erasing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import ConfigFile, Json, print_json, run
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.core.events import RecommendationList
    from stream.core.state import UserState

app = typer.Typer(
    help="See, give out or erase what is stored of one shopper.", no_args_is_help=True, rich_markup_mode=None
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
    """Erase a shopper, and print a receipt: what was removed where, and what is left until when.

    State, lists, reordered results and lists kept for attribution go at once: a list's null value tells
    readers to forget it. A mark is left in the place of the state, so that no event from before comes back
    by a replay. Messages stay on their topics until those topics' retention removes them. An event
    that happens later begins a new state. Keep the receipt; after Redis lost data, erase again.

    \b
    Examples:
      streamrec user erase shopper-0001
      streamrec user erase shopper-0001 --json > receipt.json
    """
    from stream.privacy.erasing import erase as erase_user

    receipt = run(erase_user(load_config(config), user_id))
    if json:
        print_json(receipt)
    else:
        _say_receipt(receipt)


@app.command()
def export(user_id: UserId, config: ConfigFile = None) -> None:
    """Print all that is kept of a shopper as JSON: state, lists, events, outcomes, letters.

    \b
    Examples:
      streamrec user export shopper-0001 > shopper-0001.json
      streamrec user export shopper-0001 | jq .searches
    """
    print_json(run(_export(load_config(config), user_id)))


@app.command("log-name")
def log_name(user_id: UserId, config: ConfigFile = None) -> None:
    """Print what logs call a shopper, by the key of the settings.

    \b
    Example:
      grep "$(streamrec user log-name shopper-0001)" worker.log
    """
    from stream.privacy.pseudonyms import pseudonym, use_key

    settings = load_config(config)
    if not settings.telemetry.hash_key:
        raise typer.BadParameter(
            "there is no key, so each process draws its own: set telemetry.hash_key_file, also for workers"
        )
    use_key(settings.telemetry.hash_key)
    print(pseudonym(user_id))


async def _show(config: Config, user_id: str, json: bool) -> None:
    from stream.cli.reading import clock, list_lines, read_titles
    from stream.privacy.exporting import plain_state

    state = await _state(config, user_id)
    made = await _last_list(config, user_id)
    if json:
        print_json({"user_id": user_id, "state": plain_state(state), "list": made})
        return
    if state.erased_ms and not any(state.facts[1:]):
        print(f"{user_id}: no state is stored; erased at {clock(state.erased_ms)}")
    elif state.sequence == 0 and not any(state.facts[1:]):
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


async def _export(config: Config, user_id: str) -> dict[str, Any]:
    from stream.cli.progress import progress_bar
    from stream.privacy.exporting import STEPS, export

    with progress_bar("reading", STEPS) as progress:
        return await export(config, user_id, progress)


def _say_receipt(receipt: dict[str, Any]) -> None:
    user_id, removed = receipt["user_id"], receipt["removed"]
    state = removed["state"]
    if any(state[name] for name in ("interactions", "searches", "owned")):
        print(
            f"erased the state of {user_id}: {state['interactions']} interactions, "
            f"{state['searches']} searches, {state['owned']} bought items"
        )
    else:
        print(f"no state of {user_id} was stored")
    lists, results = removed["lists"]["count"], removed["search_results"]["count"]
    print("erased the last list" if lists else "no list was published")
    if results:
        print(f"erased the reordered results of {results} placements")
    print(
        f"what happened by {receipt['erased_at']} is not taken in again; "
        f"known until {receipt['mark']['until']}"
    )
    print("left:")
    for one in receipt["left"]:
        until = f"gone after {one['gone_after'][:10]}" if one["gone_after"] else "not known until when"
        print(f"  {one['where']}: {one['what']}; {until}")


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
