"""`streamrec catalog`: load products, withdraw products, see which are held back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.cli.options import ConfigFile, Json, print_json, run, say
from stream.config import Config, load_config

if TYPE_CHECKING:
    from stream.core.events import ItemMessage

app = typer.Typer(help="Load, withdraw and check products.", no_args_is_help=True, rich_markup_mode=None)


class Kind(StrEnum):
    """What a catalogue file is."""

    ONLINE_RETAIL = "online-retail"
    ICECAT = "icecat"
    JSONL = "jsonl"
    SYNTHETIC = "synthetic"


@app.command("import")
def import_items(
    kind: Annotated[Kind, typer.Argument(help="What the file is; `synthetic` is the built-in shop.")],
    path: Annotated[
        Path | None, typer.Argument(help="The file; none for `synthetic`.", exists=True, dir_okay=False)
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Publish the products of a file to the topic `items`.

    Importing a file again changes nothing but what differs: the topic is compacted, the key is the item id.

    \b
    Examples:
      streamrec catalog import synthetic
      streamrec catalog import online-retail ../shared/data/online_retail/events.csv.gz
      streamrec catalog import icecat ../shared/data/icecat/products.jsonl.gz
      streamrec catalog import jsonl my-products.jsonl
    """
    if (path is None) != (kind is Kind.SYNTHETIC):
        raise typer.BadParameter(
            "the built-in shop has no file" if path else f"{kind} needs the file to read", param_hint="PATH"
        )
    settings = load_config(config)
    skipped: Counter[str] = Counter()
    size = path.stat().st_size if path else None
    sent = run(_import(settings, kind, path, size, skipped))
    if json:
        print_json({"sent": sent, "skipped": skipped})
        return
    say(f"{sent} products are in {settings.topics.items}")
    from stream.cli.progress import say_skipped

    say_skipped(skipped)


@app.command()
def remove(
    item_ids: Annotated[list[str], typer.Argument(metavar="ITEM_ID...", help="The products to withdraw.")],
    config: ConfigFile = None,
) -> None:
    """Withdraw products: lists no longer hold them.

    \b
    Examples:
      streamrec catalog remove 85048 79323P
    """
    settings = load_config(config)
    run(_remove(settings, item_ids))
    say(f"{len(item_ids)} products are withdrawn from {settings.topics.items}")


@app.command()
def quality(
    worst: Annotated[int, typer.Option(help="How many of the worst products to show.", min=0)] = 20,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show which products are held back from lists, what is wrong with their texts, and the worst of them.

    A product that is corrected and published again is scored anew and comes back by itself. What is held back
    is set by policy.min_quality. Bit by bit, workers let the cross-encoder read how well category and brand
    fit the text: below policy.min_fit that is a misfit, which costs policy.misfit_weight of the quality.

    \b
    Examples:
      streamrec catalog quality
      streamrec catalog quality --worst 5 --json
    """
    run(_quality(load_config(config), worst, json))


async def _quality(config: Config, worst: int, json: bool) -> None:
    from stream.adapters import vector_record
    from stream.adapters.kafka_reading import last_values
    from stream.core.quality import FINDINGS, MISFIT
    from stream.errors import InvalidMessage

    items, unreadable = [], 0
    for value in (await last_values(config.kafka, config.topics.item_vectors)).values():
        try:
            items.append(vector_record.decode(value).item)
        except InvalidMessage:
            unreadable += 1
    items.sort(key=lambda item: (item.quality, item.item_id))
    held_back = [item for item in items if item.quality < config.policy.min_quality]
    with_category = sum(bool(item.category) for item in items)
    fits = [item.fit for item in items if item.fit is not None]
    found = Counter(finding for item in items for finding in item.quality_findings)
    among_held_back = Counter(finding for item in held_back for finding in item.quality_findings)
    shown = [item for item in items[:worst] if item.quality_findings]
    if json:
        print_json(
            {
                "items": len(items),
                "unreadable": unreadable,
                "min_quality": config.policy.min_quality,
                "held_back": len(held_back),
                "fit": {"min_fit": config.policy.min_fit, "with_category": with_category, "read": len(fits)},
                "findings": {
                    finding: {
                        "items": count,
                        "held_back": among_held_back[finding],
                        "meaning": FINDINGS.get(finding),
                    }
                    for finding, count in found.most_common()
                },
                "worst": [
                    {
                        "item_id": item.item_id,
                        "quality": item.quality,
                        "findings": item.quality_findings,
                        "fit": item.fit,
                        "title": item.title,
                    }
                    for item in shown
                ],
            }
        )
        return
    print(
        f"{len(held_back)} of {len(items)} products are held back: quality below {config.policy.min_quality}"
    )
    print(f"the fit of category and text was read of {len(fits)} of {with_category} products with a category")
    for finding, count in found.most_common():
        print(f"  {count:>6}  {finding:<16} {FINDINGS.get(finding, '')}")
    for item in shown:
        findings = ", ".join(
            f"{finding} ({item.fit})" if finding == MISFIT else finding for finding in item.quality_findings
        )
        print(f"{item.quality:.2f}  {item.item_id:<12} {findings}: {item.title[:60]}")
    if unreadable:
        say(f"{unreadable} records of {config.topics.item_vectors} could not be read")


async def _import(
    config: Config, kind: Kind, path: Path | None, size: int | None, skipped: Counter[str]
) -> int:
    from stream.adapters.kafka_clients import producer
    from stream.adapters.kafka_sender import Sender
    from stream.cli.progress import progress_bar

    async with producer(config.kafka) as client:
        sender = Sender(client, config.topics)
        with progress_bar("importing", size) as show:
            items = _read(kind, path, skipped, lambda done: show(done, f"{sender.acknowledged} products"))
            for item in items:
                await sender.send(item)
            await sender.flush()
        return sender.acknowledged


async def _remove(config: Config, item_ids: list[str]) -> None:
    from stream.adapters.kafka_clients import producer
    from stream.adapters.kafka_sender import Sender

    async with producer(config.kafka) as client:
        sender = Sender(client, config.topics)
        for item_id in item_ids:
            await sender.send_raw(config.topics.items, item_id.encode(), None)
        await sender.flush()


def _read(
    kind: Kind, path: Path | None, skipped: Counter[str], progress: Callable[[int], None]
) -> Iterable[ItemMessage]:
    from stream.importers import icecat, jsonl, online_retail, synthetic

    if path is None:
        return synthetic.make_items()
    if kind is Kind.ONLINE_RETAIL:
        return online_retail.read_items(path, skipped, progress)
    if kind is Kind.ICECAT:
        return icecat.read_items(path, skipped, progress)
    return jsonl.read_items(path, skipped, progress)
