"""`streamrec topics`: make and list the topics of the contract."""

from __future__ import annotations

import typer

from stream.cli.options import ConfigFile, Json, print_json, run
from stream.config import load_config

app = typer.Typer(help="Make and list the topics.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def create(config: ConfigFile = None, json: Json = False) -> None:
    """Make the topics that are missing; those that exist are compared and left as they are.

    Refuses, with the difference shown, when clicks and searches would have different numbers of
    partitions: one worker must get all of a shopper's events.

    \b
    Examples:
      streamrec topics create
      STREAMREC_KAFKA__PARTITIONS=24 STREAMREC_KAFKA__REPLICATION=3 streamrec topics create
    """
    from stream.adapters.kafka_topics import create_topics

    outcomes = run(create_topics(load_config(config)))
    if json:
        print_json([outcome._asdict() for outcome in outcomes])
        return
    for outcome in outcomes:
        print(f"{outcome.name}: {'made' if outcome.created else 'exists'}, {outcome.partitions} partitions")
        for difference in outcome.differences:
            print(f"  {difference}")


@app.command("list")
def list_topics(config: ConfigFile = None, json: Json = False) -> None:
    """Show the topics with their partitions and settings.

    \b
    Examples:
      streamrec topics list
      streamrec topics list --json
    """
    from stream.adapters.kafka_topics import SHOWN_SETTINGS, describe_topics

    found = run(describe_topics(load_config(config)))
    if json:
        print_json(
            [
                {
                    **topic._asdict(),
                    "settings": {
                        key: value for key, value in topic.settings.items() if key in SHOWN_SETTINGS
                    },
                }
                for topic in found
            ]
        )
        return
    for topic in found:
        if not topic.partitions:
            print(f"{topic.name}: missing, `streamrec topics create` makes it")
            continue
        settings = " ".join(f"{key}={topic.settings.get(key)}" for key in SHOWN_SETTINGS)
        print(f"{topic.name}: {topic.partitions} partitions, {topic.replication} copies, {settings}")
