"""What the demo shows: on a terminal a live picture, elsewhere plain lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream.core.events import ClickMessage, RecommendationList, SearchMessage
from stream.demo.measure import Refresh

SPOTLIGHT_S = 2.5
"""How long one shopper's lists stay in view, so that they can be read."""
PLAIN_EVERY_S = 1.0
ITEMS_SHOWN = 8
TICKER_LINES = 6
REFRESH_PER_S = 4

VERBS = {
    "view_item": "looked at",
    "select_item": "chose",
    "add_to_cart": "put in the cart",
    "remove_from_cart": "took out of the cart",
    "purchase": "bought",
}


class Figures(NamedTuple):
    """The counters of this moment."""

    elapsed_s: float
    total_s: float
    events: int
    users: int
    lists: int
    lists_per_s: float
    freshness_ms: Mapping[str, float]
    mean_batch: float | None
    degraded: Mapping[str, int]
    dead_letters: int


class View(Protocol):
    """Where the demo shows what happens."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Leave the terminal as it was."""

    def refresh(self, refresh: Refresh) -> None:
        """A shopper's list changed."""

    def figures(self, figures: Figures) -> None:
        """The counters, about four times a second."""


def deed(event: ClickMessage | SearchMessage, titles: Mapping[str, str]) -> str:
    """What a shopper did, as a sentence without its subject."""
    if isinstance(event, SearchMessage):
        return f"searched for “{event.search_query}”"
    item_id = event.item_id or ""
    return f"{VERBS[event.event_type]} {titles.get(item_id, item_id)}"


def summary(figures: Figures) -> str:
    """The counters as one line."""
    fresh = figures.freshness_ms
    batch = "-" if figures.mean_batch is None else f"{figures.mean_batch:.2f}"
    without = ", ".join(f"{part} ×{count}" for part, count in figures.degraded.items()) or "nothing"
    return (
        f"{figures.events} events of {figures.users} shoppers, {figures.lists} lists "
        f"({figures.lists_per_s:.0f}/s), freshness p50 {fresh['p50']:.0f} p95 {fresh['p95']:.0f} "
        f"p99 {fresh['p99']:.0f} max {fresh['max']:.0f} ms, Triton's mean batch {batch}, "
        f"left out: {without}, dead letters: {figures.dead_letters}"
    )


class PlainView:
    """One line for a list now and then, for logs and pipes."""

    def __init__(self, console: Console, titles: Mapping[str, str]) -> None:
        self._console = console
        self._titles = titles
        self._shown_s = float("-inf")
        self._summed_s = 0.0

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to put right."""

    def refresh(self, refresh: Refresh) -> None:
        """Print the event and the top of the list, at most once a second."""
        if time.monotonic() - self._shown_s < PLAIN_EVERY_S:
            return
        self._shown_s = time.monotonic()
        top = "; ".join(
            f"{item.rank}. {self._titles.get(item.item_id, item.item_id)} ({item.reason})"
            for item in refresh.after.items[:3]
        )
        self._console.out(
            f"{refresh.event.user_id} {deed(refresh.event, self._titles)} -> "
            f"list after {refresh.freshness_ms} ms: {top or 'empty'}",
            highlight=False,
        )

    def figures(self, figures: Figures) -> None:
        """Print the counters every five seconds."""
        if figures.elapsed_s - self._summed_s >= 5.0:
            self._summed_s = figures.elapsed_s
            self._console.out(f"[{figures.elapsed_s:.0f} s] {summary(figures)}", highlight=False)


class LiveView:
    """One shopper in the spotlight, with the list before and after; below, what else happens."""

    def __init__(self, console: Console, titles: Mapping[str, str], label: str) -> None:
        self._titles = titles
        self._label = label
        self._live = Live(console=console, refresh_per_second=REFRESH_PER_S, screen=False, transient=True)
        self._spotlight: Refresh | None = None
        self._spotlight_s = float("-inf")
        self._ticker: deque[str] = deque(maxlen=TICKER_LINES)
        self._figures: Figures | None = None

    def start(self) -> None:
        """Take the lower part of the terminal."""
        self._live.start()

    def stop(self) -> None:
        """Give it back."""
        self._live.stop()

    def refresh(self, refresh: Refresh) -> None:
        """Add to the ticker, and to the spotlight when the last one had its time."""
        event = refresh.event
        self._ticker.append(
            f"{refresh.freshness_ms:>5} ms  {event.user_id} {deed(event, self._titles)}"
            + (f"  without {', '.join(refresh.after.degraded)}" if refresh.after.degraded else "")
        )
        if time.monotonic() - self._spotlight_s > SPOTLIGHT_S and (
            self._spotlight is None or _changed(refresh)
        ):
            self._spotlight = refresh
            self._spotlight_s = time.monotonic()

    def figures(self, figures: Figures) -> None:
        """Redraw."""
        self._figures = figures
        self._live.update(self._picture())

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._figures is not None:
            parts.append(self._head(self._figures))
        if self._spotlight is not None:
            parts.append(self._lists(self._spotlight))
        parts.append(
            Panel("\n".join(escape(line) for line in self._ticker), title="lately", title_align="left")
        )
        return Group(*parts)

    def _head(self, figures: Figures) -> RenderableType:
        fresh = figures.freshness_ms
        table = Table.grid(padding=(0, 3))
        table.add_row(
            f"[b]{figures.elapsed_s:.0f}[/b] of {figures.total_s:.0f} s",
            f"[b]{figures.events}[/b] events, {figures.users} shoppers",
            f"[b]{figures.lists}[/b] lists, [b]{figures.lists_per_s:.0f}[/b]/s",
            f"freshness p50 [b]{fresh['p50']:.0f}[/b]  p95 {fresh['p95']:.0f}  "
            f"p99 {fresh['p99']:.0f}  max {fresh['max']:.0f} ms",
        )
        without = ", ".join(f"{part} ×{count}" for part, count in figures.degraded.items())
        batch = "-" if figures.mean_batch is None else f"{figures.mean_batch:.2f}"
        table.add_row(
            "",
            f"Triton's mean batch {batch}",
            f"dead letters {figures.dead_letters}",
            f"[red]left out: {without}[/red]" if without else "[green]nothing left out[/green]",
        )
        return Panel(table, title=f"streamrec · {escape(self._label)}", title_align="left")

    def _lists(self, refresh: Refresh) -> RenderableType:
        before_ranks = {item.item_id: item.rank for item in refresh.before.items} if refresh.before else {}
        table = Table(expand=True, show_edge=False, pad_edge=False)
        table.add_column("before", ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column("after", ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column("because", ratio=4, no_wrap=True, overflow="ellipsis")
        for place in range(ITEMS_SHOWN):
            after = refresh.after.items[place] if place < len(refresh.after.items) else None
            table.add_row(
                Text(self._line(refresh.before, place), style="dim"),
                Text(
                    self._line(refresh.after, place),
                    style="bold green" if after and after.item_id not in before_ranks else "",
                ),
                Text(after.reason if after else ""),
            )
        title = Text(f"{refresh.event.user_id} {deed(refresh.event, self._titles)}", style="bold")
        return Panel(
            table,
            title=title,
            title_align="left",
            subtitle=f"{refresh.freshness_ms} ms after the event",
            subtitle_align="right",
        )

    def _line(self, made: RecommendationList | None, place: int) -> str:
        if made is None or place >= len(made.items):
            return ""
        item = made.items[place]
        return f"{item.rank:>2} {self._titles.get(item.item_id, item.item_id)}"


def _changed(refresh: Refresh) -> bool:
    """Whether something new is among the places shown of a list that was there before."""
    if refresh.before is None:
        return False
    known = {item.item_id for item in refresh.before.items}
    return any(item.item_id not in known for item in refresh.after.items[:ITEMS_SHOWN])
