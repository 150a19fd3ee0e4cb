"""`streamrec dead-letters`: messages that were set aside, why, and how they come back."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream.cli.options import ConfigFile, Json, print_json, run, say, time_ms
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.adapters.letter_record import Letter

app = typer.Typer(
    help="Messages that were set aside: list them, see one, put them back after a fix.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SHOWN_BYTES = 4_000

CURES = {
    "null_value": "send no null on this topic; only a product is removed by one",
    "too_large": "send less: a message may have 1,000,000 bytes",
    "not_json": "send JSON in UTF-8, without NaN and Infinity",
    "not_an_object": "send one JSON object a message",
    "too_deep": "send what is nested less deeply",
    "invalid_field": "send the field as docs/schema/ says",
    "unknown_event_type": "send one of the types of docs/schema/click.json",
    "invalid_time": "send RFC 3339 with an offset, or epoch milliseconds",
    "key_mismatch": "give the message the key that its value names: user_id, or item_id of a product",
    "invalid_increment": "let only workers write to item-signals",
    "internal": "a fault of streamrec at the place named: mend it, then replay the letter",
}
"""What helps, by code. The bytes of a letter never change: what was sent wrongly is to be sent anew."""

Place = Annotated[
    str, typer.Argument(metavar="PLACE", help="The letter, as `list` names it: PARTITION/OFFSET.")
]
Topic = Annotated[
    str | None, typer.Option("--topic", help="Only those that came from this topic.", show_default=False)
]
Code = Annotated[
    str | None,
    typer.Option("--code", help="Only those with this code, such as internal.", show_default=False),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only those set aside from this time on: ISO 8601, UTC."),
]
User = Annotated[
    str | None,
    typer.Option("--user", help="Only those of this shopper, by key or user_id.", show_default=False),
]


@app.command("list")
def list_letters(
    topic: Topic = None,
    code: Code = None,
    since: Since = None,
    user: User = None,
    limit: Annotated[int, typer.Option(help="How many of the newest to show.", min=1, max=100_000)] = 50,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show the newest letters, and how many there are of each code.

    \b
    Examples:
      streamrec dead-letters list
      streamrec dead-letters list --code internal --since 2026-01-31
      streamrec dead-letters list --topic clicks --user shopper-0001 --json
    """
    settings = load_config(config)
    codes: Counter[str] = Counter()
    newest = run(_gather(settings, _Filter(topic, code, user), time_ms(since, "--since"), codes, limit))
    if json:
        print_json({"letters": [_plain(one) for one in newest], "codes": codes})
        return
    if not newest:
        say("no letters")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("letter", "set aside", "came from", "code", "reason")
    for one in newest:
        letter = one.letter
        at = letter.message.source
        said = _printable(letter.reason) + f" (put back {one.replays} times before)" * bool(one.replays)
        table.add_row(
            one.place, one.failed_at[:19], f"{at.topic}/{at.partition}/{at.offset}", letter.code, said
        )
    counts = Table("code", "letters", "cure")
    for name, count in codes.most_common():
        counts.add_row(name, str(count), CURES.get(name, ""))
    Console().print(table, counts)
    if codes.total() > len(newest):
        say(f"the newest {len(newest)} of {codes.total()} are shown; --limit shows more")


@app.command()
def show(
    place: Place,
    raw: Annotated[bool, typer.Option("--raw", help="Write the value's bytes as they are.")] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show one letter: where it came from, why it was set aside, what helps, and the message itself.

    \b
    Examples:
      streamrec dead-letters show 3/17
      streamrec dead-letters show 3/17 --raw > message.json
      streamrec dead-letters show 3/17 --json
    """
    one = run(_letter(load_config(config), place))
    letter = one.letter
    if raw:
        typer.get_binary_stream("stdout").write(letter.message.value or b"")
        return
    if json:
        print_json(_plain(one) | {"cure": CURES.get(letter.code, ""), **_content(one)})
        return
    at = letter.message.source
    print(f"letter {one.place}, set aside {one.failed_at}")
    print(f"from    {at.topic}, partition {at.partition}, offset {at.offset}")
    print(f"why     {letter.code}: {_printable(letter.reason)}")
    print(f"cure    {CURES.get(letter.code, '')}")
    if one.replays:
        print(f"again   it had been put back {one.replays} times")
    if one.cut:
        print(f"cut     {', '.join(one.cut)}: too large, only the beginning was kept")
    print(f"key     {_bytes(letter.message.key)}")
    for name, content in letter.message.headers:
        print(f"header  {_printable(name)}: {_bytes(content)}")
    print(f"value   {_bytes(letter.message.value)}")


@app.command()
def replay(
    place: Annotated[
        str | None,
        typer.Argument(metavar="[PLACE]", help="One letter; else options say which.", show_default=False),
    ] = None,
    topic: Topic = None,
    code: Code = None,
    since: Since = None,
    user: User = None,
    every: Annotated[bool, typer.Option("--all", help="All letters.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; send nothing.")] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Put letters back on the topics they came from, with their keys, values and headers.

    To be done after the fault was mended. An event that is put back twice counts once in the shopper's state,
    which remembers events; an old message about a product is left out where a newer one was published. A
    letter stays on its topic; one that fails again becomes a new letter that says so.

    \b
    Examples:
      streamrec dead-letters replay 3/17
      streamrec dead-letters replay --code internal --since 2026-01-31 --dry-run
      streamrec dead-letters replay --code internal --topic clicks
    """
    wanted = _Filter(topic, code, user)
    if (place is not None) == (every or since is not None or any((topic, code, user))):
        raise typer.BadParameter(
            "name one letter, or say by options which; --all takes every one", param_hint="PLACE"
        )
    settings = load_config(config)
    outcomes = run(_replay(settings, place, wanted, time_ms(since, "--since"), dry_run=dry_run))
    if json:
        print_json({"dry_run": dry_run, "letters": outcomes.total(), "outcomes": outcomes})
    else:
        for outcome, count in outcomes.most_common():
            say(f"{count:>8}  {'would be ' * dry_run * (outcome == 'put back')}{outcome}")
        if not outcomes:
            say("no letters")
    if place is not None and "put back" not in outcomes:
        raise typer.Exit(1)


class _Filter:
    """Which letters are meant."""

    def __init__(self, topic: str | None, code: str | None, user: str | None) -> None:
        self._topic = topic
        self._code = code
        self._user = user

    def takes(self, one: Letter) -> bool:
        from stream.adapters.letter_record import users_of

        letter = one.letter
        return (
            self._topic in (None, letter.message.source.topic)
            and self._code in (None, letter.code)
            and (self._user is None or self._user in users_of(one))
        )


async def _gather(
    config: Config, wanted: _Filter, since_ms: int | None, codes: Counter[str], limit: int
) -> list[Letter]:
    """Count letters by code and give the newest, without their bytes."""
    newest: list[Letter] = []
    async for some in _wanted(config, wanted, since_ms):
        codes.update(one.letter.code for one in some)
        newest = sorted([*newest, *map(_without_bytes, some)], key=_when)[-limit:]
    return newest


async def _wanted(config: Config, wanted: _Filter, since_ms: int | None) -> AsyncIterator[list[Letter]]:
    """Give the letters that lie there now, batch by batch."""
    from stream.adapters.kafka_dead_letters import read_letters
    from stream.cli.progress import progress_bar

    unreadable = 0
    with progress_bar("reading letters", None) as progress:
        async for read in read_letters(config, since_ms):
            progress(read.done, f"{read.done} of {read.total}")
            unreadable += read.unreadable
            yield [one for one in read.records if wanted.takes(one)]
    if unreadable:
        say(f"{unreadable} records of {config.topics.dead_letters} are no letters")


async def _letter(config: Config, place: str) -> Letter:
    from stream.adapters.kafka_dead_letters import read_letter
    from stream.errors import InvalidMessage

    partition, slash, offset = place.partition("/")
    if not (slash and partition.isdigit() and offset.isdigit() and len(place) < 32):
        raise typer.BadParameter(f"{place!r} is no place such as 3/17", param_hint="PLACE")
    try:
        found = await read_letter(config, int(partition), int(offset))
    except InvalidMessage as error:
        raise typer.BadParameter(str(error), param_hint="PLACE") from None
    if found is None:
        raise typer.BadParameter(
            f"{place}: no letter lies there; `streamrec dead-letters list` shows those there are",
            param_hint="PLACE",
        )
    return found


async def _replay(
    config: Config, place: str | None, wanted: _Filter, since_ms: int | None, *, dry_run: bool
) -> Counter[str]:
    from stream.adapters.kafka_dead_letters import put_back

    outcomes: Counter[str] = Counter()
    if place is not None:
        found = [await _letter(config, place)]
        outcomes.update([one.value async for one in put_back(config, found, dry_run=dry_run)])
        return outcomes
    async for some in _wanted(config, wanted, since_ms):
        if some:
            outcomes.update([one.value async for one in put_back(config, some, dry_run=dry_run)])
    return outcomes


def _when(one: Letter) -> tuple[str, str, int, int]:
    """Letters in the order in which they were set aside; those of one batch as they lay before."""
    at = one.letter.message.source
    return one.failed_at, at.topic, at.partition, at.offset


def _without_bytes(one: Letter) -> Letter:
    """A letter that costs little to keep."""
    message = one.letter.message._replace(value=None, headers=())
    return one._replace(letter=one.letter._replace(message=message))


def _plain(one: Letter) -> dict[str, Any]:
    letter = one.letter
    at = letter.message.source
    return {
        "letter": one.place,
        "failed_at": one.failed_at,
        "topic": at.topic,
        "partition": at.partition,
        "offset": at.offset,
        "code": letter.code,
        "reason": letter.reason,
        "cut": one.cut,
        "replays": one.replays,
    }


def _content(one: Letter) -> dict[str, Any]:
    """Key, value and headers for programs: bytes as base64, and as text where they are some."""
    message = one.letter.message
    return {
        "key": message.key,
        "value": message.value,
        "value_text": None if message.value is None else message.value.decode(errors="replace"),
        "headers": [[name, content] for name, content in message.headers],
    }


def _bytes(data: bytes | None) -> str:
    """Bytes as people read them, without what a terminal would obey."""
    if data is None:
        return "null"
    more = f" … {len(data)} bytes in all" * (len(data) > SHOWN_BYTES)
    return _printable(data[:SHOWN_BYTES].decode(errors="backslashreplace")) + more


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
