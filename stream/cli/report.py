"""`streamrec report`: what came of the lists, as a page and as figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import ConfigFile, print_json, run, say, time_ms
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.evaluation.rates import Summary, Tally

PROGRESS_EVERY_LINES = 2_000


def report(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Attributions as JSON lines; else the topic is read.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Lists made from this time on: ISO 8601, UTC."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Lists made before this time.")
    ] = None,
    placement: Annotated[
        str | None, typer.Option("--placement", help="Only lists for this place on the site.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the page goes.", dir_okay=False)
    ] = Path("report.html"),
    json: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="FILE", help="Write figures as JSON instead of a page; - for standard output."
        ),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Report how often lists were clicked, put in the cart and bought from: rates with intervals and plots.

    Impressions (`view_item_list`), clicks, carts and purchases are joined to lists by the workers and lie
    on the topic `attributions`. The page is one file that needs nothing else. What came of a list counts
    for the list, whenever it came: --from and --to are times when lists were made.

    \b
    Examples:
      streamrec report
      streamrec report --from 2026-01-01 --to 2026-02-01 --placement cart --out january.html
      streamrec report attributions.jsonl --json -
    """
    from stream.evaluation.rates import Tally

    tally = Tally(time_ms(start, "--from"), time_ms(end, "--to"), placement)
    if file is not None:
        _read_file(file, tally)
    else:
        run(_read_topic(load_config(config), tally, time_ms(start, "--from")))
    found = tally.summary()
    if json is not None:
        _write_json(found, json)
    else:
        _write_page(found, out)


def _read_file(path: Path, tally: Tally) -> None:
    import msgspec

    from stream.cli.progress import progress_bar
    from stream.core.events import Attribution

    decoder = msgspec.json.Decoder(Attribution)
    done = 0
    with progress_bar(f"reading {path.name}", path.stat().st_size) as show, path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            done += len(line)
            if line.strip():
                try:
                    tally.add(decoder.decode(line))
                except msgspec.DecodeError as error:
                    raise typer.BadParameter(
                        f"{path}, line {number}: no attribution ({error})", param_hint="FILE"
                    ) from None
            if number % PROGRESS_EVERY_LINES == 0:
                show(done, f"{number} records")


async def _read_topic(config: Config, tally: Tally, from_ms: int | None) -> None:
    from stream.adapters.kafka_attributions import read_attributions
    from stream.cli.progress import progress_bar

    unreadable = 0
    with progress_bar(f"reading {config.topics.attributions}", None) as show:
        async for read in read_attributions(config, from_ms):
            for record in read.records:
                tally.add(record)
            unreadable += read.unreadable
            show(read.done, f"{read.done} of {read.total} records")
    if unreadable:
        say(f"{unreadable} messages of {config.topics.attributions} are no attributions and were left out")


def _write_json(found: Summary, json: str) -> None:
    import msgspec

    if json == "-":
        print_json(found)
        return
    try:
        Path(json).write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    except OSError as error:
        raise typer.BadParameter(f"{json}: {error.strerror}", param_hint="--json") from None


def _write_page(found: Summary, out: Path) -> None:
    from stream.evaluation import rates_page

    content = rates_page.page(found)
    try:
        out.write_text(content, "utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{out}: {error.strerror}", param_hint="--out") from None
    say(
        f"{found.lists} lists ({rates_page.span(found)}), {found.total.shown} places shown, "
        f"clicked {rates_page.percent(found.total.click)}"
    )
    say(f"the page is at {out}")
