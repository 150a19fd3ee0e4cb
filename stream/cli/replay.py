"""`streamrec replay`: real sales, or the built-in shop's visitors, as events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from stream.cli.options import ConfigFile, Json, print_json, run, say
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.importers.replay import Pace, Recorded

CHECKPOINT_FOLDER = Path(".streamrec")
SHOWN_EVERY = 50


class Kind(StrEnum):
    """What is replayed."""

    ONLINE_RETAIL = "online-retail"
    SYNTHETIC = "synthetic"


class _Selection(NamedTuple):
    kind: Kind
    path: Path | None
    after_row: int
    from_ms: int | None
    to_ms: int | None
    seed: int


def replay(
    kind: Annotated[Kind, typer.Argument(help="What to replay; `synthetic` is the built-in shop.")],
    path: Annotated[
        Path | None, typer.Argument(help="The file; none for `synthetic`.", exists=True, dir_okay=False)
    ] = None,
    speed: Annotated[str, typer.Option("--speed", help="A factor of real time, or max.")] = "1",
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, help="Events a second, instead of --speed.")
    ] = None,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Day to stop before, UTC.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many events.")] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Each event happens when it is sent; its own time is dropped.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the checkpoint.")] = False,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Where to note how far it came.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Which shoppers of the built-in shop.")] = 1,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Publish recorded events at their own pace, faster, or as fast as it goes.

    The sales file gives one purchase event for each line that sells a product; its minutes are taken as
    UTC, and lines of one minute are 10 ms apart so that their order stays. What is skipped is counted by
    reason and shown. The built-in shop's events are synthetic, say so, and never end without --limit.

    A checkpoint is written about every second, to .streamrec/ unless --checkpoint names a file. After
    --resume a second's events may come again: their event ids are the same, so they count once.

    \b
    Examples:
      streamrec replay online-retail ../shared/data/online_retail/events.csv.gz --speed 3600
      streamrec replay online-retail events.csv.gz --speed max --from 2011-06-01 --limit 10000 --now
      streamrec replay synthetic --rate 100
    """
    if (path is None) != (kind is Kind.SYNTHETIC):
        raise typer.BadParameter(
            "the built-in shop has no file" if path else f"{kind} needs the file to read", param_hint="PATH"
        )
    from stream.importers.replay import Checkpoint, Pace

    settings = load_config(config)
    pace = Pace(_factor(speed), rate)
    name = f"{kind}-{path.name if path else f'seed-{seed}'}"
    place = checkpoint or CHECKPOINT_FOLDER / f"replay-{name}.json"
    source = f"{name} ({path.stat().st_size} bytes)" if path else name
    after_row = Checkpoint.load(place, source) if resume else 0
    if resume:
        say(
            f"going on after row {after_row}"
            if after_row
            else f"no checkpoint at {place}: from the beginning"
        )
    chosen = _Selection(kind, path, after_row, _epoch_ms(start), _epoch_ms(end), seed)
    skipped: Counter[str] = Counter()
    size = path.stat().st_size if path else None
    sent = run(
        _replay(
            settings,
            chosen,
            pace,
            size,
            skipped,
            limit=limit,
            stamp_now=now or kind is Kind.SYNTHETIC,
            save=lambda row: Checkpoint(source=source, row=row).save(place),
        )
    )
    if json:
        print_json({"sent": sent, "skipped": skipped, "checkpoint": str(place)})
        return
    say(f"sent {sent} events")
    from stream.cli.progress import say_skipped

    say_skipped(skipped)


async def _replay(
    config: Config,
    chosen: _Selection,
    pace: Pace,
    size: int | None,
    skipped: Counter[str],
    *,
    limit: int | None,
    stamp_now: bool,
    save: Callable[[int], None],
) -> int:
    from stream.adapters.kafka_clients import producer
    from stream.adapters.kafka_sender import Sender
    from stream.cli.progress import progress_bar
    from stream.cli.reading import clock
    from stream.importers.replay import replay as send_all

    async with producer(config.kafka) as client:
        sender = Sender(client, config.topics)
        # With a limit the bar counts events, else the bytes of the file.
        with progress_bar("replaying", limit or size) as show:
            read_bytes = 0
            count = 0

            def on_read(done: int) -> None:
                nonlocal read_bytes
                read_bytes = done

            def on_sent(event: Recorded) -> None:
                nonlocal count
                count += 1
                if count % SHOWN_EVERY == 0 or count == limit:
                    show(count if limit else read_bytes, f"{count} events, at {clock(event.at_ms)}")

            await send_all(
                _events(chosen, skipped, on_read),
                sender,
                pace,
                limit=limit,
                stamp_now=stamp_now,
                on_progress=on_sent,
                checkpoint=save,
            )
        return sender.acknowledged


def _events(chosen: _Selection, skipped: Counter[str], on_read: Callable[[int], None]) -> Iterator[Recorded]:
    from stream.importers import online_retail, synthetic
    from stream.importers.replay import Recorded

    if chosen.path is not None:
        for sale in online_retail.read_sales(
            chosen.path,
            skipped,
            after_row=chosen.after_row,
            from_ms=chosen.from_ms,
            to_ms=chosen.to_ms,
            progress=on_read,
        ):
            yield Recorded(sale.row, sale.at_ms, online_retail.to_event(sale))
        return
    start_ms = int(datetime.now(UTC).timestamp() * 1000)
    made = synthetic.make_events(synthetic.make_items(), chosen.seed, start_ms=start_ms)
    for row, message in enumerate(made, 1):
        if row > chosen.after_row:
            assert isinstance(message.event_time, int)  # as the built-in shop makes them
            yield Recorded(row, message.event_time, message)


def _factor(speed: str) -> float | None:
    """None for max."""
    if speed == "max":
        return None
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise typer.BadParameter(f"{speed!r} is neither a positive factor nor max", param_hint="--speed")
    return factor


def _epoch_ms(day: datetime | None) -> int | None:
    return None if day is None else int(day.replace(tzinfo=UTC).timestamp() * 1000)
