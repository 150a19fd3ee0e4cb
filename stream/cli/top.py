"""`streamrec top`: how a running cluster fares, live in the terminal."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from stream.cli.options import ConfigFile, Json, print_json, run
from stream.config import load_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType
    from rich.table import Table

    from stream.telemetry.running import Cluster, Standing, Told

TIMEOUT_S = 5.0


def top(
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            metavar="URL",
            help="Of a worker; give one for each. Else the worker on telemetry.host and telemetry.port.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help="Seconds between two looks, over which rates are.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print one picture and end.")] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Show how the workers of a running cluster fare, until Ctrl-C.

    Lists and events a second, freshness, what waits, the stages of a batch, what lists are made without,
    caches, the index and Redis: all from the workers' metrics, nothing else is asked. With --json one line
    for each look. With --once the exit code is 1 where no worker answers.

    \b
    Examples:
      streamrec top
      streamrec top --metrics http://10.0.0.5:9464 --metrics http://10.0.0.6:9464
      streamrec top --once --json | jq .together.freshness.p99_ms
    """
    at = load_config(config).telemetry
    urls = [_full(url) for url in metrics or [f"{at.host}:{at.port}"]]
    run(_top(list(dict.fromkeys(urls)), every, once, json))


def _full(url: str) -> str:
    """Complete `host:port`, or a URL without its path."""
    url = url if "://" in url else f"http://{url}"
    url = url.rstrip("/")
    return url if url.endswith("/metrics") else f"{url}/metrics"


async def _top(urls: list[str], every_s: float, once: bool, json: bool) -> None:
    import asyncio

    from rich.console import Console
    from rich.live import Live

    from stream.errors import Unavailable
    from stream.telemetry.running import compare

    console = Console()
    live = Live("looking …", console=console, screen=True, auto_refresh=False)
    shown_live = console.is_terminal and not once and not json
    with live if shown_live else nullcontext():
        before = await _look(urls)
        while True:
            await asyncio.sleep(every_s)
            now = await _look(urls)
            cluster = compare(before, now)
            if once and all(told.problem for told in now.values()):
                problems = "; ".join(f"{url}: {told.problem}" for url, told in now.items())
                raise Unavailable(f"no worker answers ({problems}): name those that run with --metrics")
            if json:
                print_json(cluster, lines=not once)
            elif shown_live:
                live.update(picture(cluster), refresh=True)
            else:
                console.print(picture(cluster))
            if once:
                return
            before = now


async def _look(urls: list[str]) -> dict[str, Told]:
    """Ask all at once; who does not answer in five seconds says why."""
    import asyncio
    import time

    import aiohttp

    from stream.telemetry.running import Told, read

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:

        async def ask(url: str) -> Told:
            try:
                async with session.get(url) as answer:
                    if answer.status != 200:
                        return Told(time.monotonic(), {}, f"answers {answer.status}")
                    return Told(time.monotonic(), read(await answer.text()))
            except TimeoutError:
                return Told(time.monotonic(), {}, f"no answer in {TIMEOUT_S:g} s")
            except (aiohttp.ClientError, ValueError) as error:
                return Told(time.monotonic(), {}, str(error) or type(error).__name__)

        return dict(zip(urls, await asyncio.gather(*(ask(url) for url in urls)), strict=True))


def picture(cluster: Cluster) -> RenderableType:
    """Lay out what is known of a cluster."""
    from rich.columns import Columns
    from rich.console import Group

    workers = _table(
        "worker", "", "lists/s", "events/s", "p50 ms", "p95 ms", "p99 ms", "batch", "left", "unmoved s"
    )
    for worker in cluster.workers:
        if worker.standing is None:
            workers.add_row(_short(worker.url), "[red]away")
        else:
            state = "[green]ready" if worker.ready else "[yellow]not ready"
            workers.add_row(_short(worker.url), state, *_cells(worker.standing))
    if len(cluster.workers) > 1:
        workers.add_row("[b]together", "", *(f"[b]{cell}" for cell in _cells(cluster.together)))
    redis = cluster.redis
    index = {
        f"{version}{' (serves)' if version in cluster.serving else ''}": f"{count:,}"
        for version, count in cluster.index.items()
    }
    boxes = [
        _box("stage, mean ms", {stage: f"{ms:.1f}" for stage, ms in cluster.stages_ms.items()}),
        _box("messages left", {topic: f"{count:,}" for topic, count in cluster.messages_left.items()}),
        _box("lists without", {part: f"{share:.1%}" for part, share in cluster.degraded.items()}),
        _box("found in caches", {cache: f"{share:.0%}" for cache, share in cluster.found.items()}),
        _box("dead letters", {code: f"{count:.0f}" for code, count in cluster.dead_letters.items() if count}),
        _box(
            "model failures/s",
            {model: f"{rate:.1f}" for model, rate in cluster.model_failures_per_s.items() if rate},
        ),
        _box("index", {"items": f"{cluster.items:,}", **index}),
        _box(
            "Redis",
            {
                "used MB": _megabytes(redis.used_bytes),
                "at most MB": "no bound" if redis.max_bytes == 0 else _megabytes(redis.max_bytes),
                "errors/s": f"{redis.errors_per_s:.1f}",
            },
        ),
    ]
    problems = [
        f"[red]{escape(f'{_short(worker.url)} is away: {worker.problem}')}"
        for worker in cluster.workers
        if worker.problem
    ]
    return Group(
        f"streamrec, the last {cluster.seconds:.1f} s",
        workers,
        *problems,
        Columns([box for box in boxes if box.row_count]),
    )


def _short(url: str) -> str:
    return url.partition("://")[2].removesuffix("/metrics")


def _table(*heads: str) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE)
    for number, head in enumerate(heads):
        figures = number > 1 or (number == 1 and len(heads) == 2)
        table.add_column(head, justify="right" if figures else "left", overflow="fold")
    return table


def _box(head: str, values: Mapping[str, str]) -> Table:
    table = _table(head, "")
    for name, value in values.items():
        table.add_row(escape(name), value)
    return table


def _megabytes(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else f"{size_bytes / 1e6:,.1f}"


def _cells(standing: Standing) -> list[str]:
    fresh = standing.freshness
    return [
        f"{standing.lists_per_s:.1f}",
        f"{standing.events_per_s:.1f}",
        *([f"{ms:.0f}" for ms in (fresh.p50_ms, fresh.p95_ms, fresh.p99_ms)] if fresh else ["-", "-", "-"]),
        "-" if standing.batch_messages is None else f"{standing.batch_messages:.1f}",
        f"{standing.messages_left:,}",
        f"{standing.unmoved_s:.0f}",
    ]
