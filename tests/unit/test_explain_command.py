"""What a worker answers to `/explain`, and what `streamrec explain` makes of it."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import msgspec
import pytest
from typer.testing import CliRunner

from stream.cli.root import app
from stream.core.account import Contribution, Fate, Score
from stream.errors import StateUnavailable, Unavailable
from stream.lists.explaining import Change, Explanation
from stream.process.progress import Progress
from stream.telemetry.metrics import StatusServer, Telemetry

FOUND = Explanation(
    user_id="ann",
    item_id="cup",
    title="blue cup",
    fate=Fate("listed", "it is in the list, 1. of 7 candidates by score", 1, 7),
    change=Change("without what the shopper did to red mug it would leave the list", without_item="mug"),
    recommendation_id="r1",
    model_versions={"reranker": "3"},
    degraded=[],
    place=1,
    source="covisited",
    reason="because you viewed red mug",
    sources=["covisited", "trending"],
    score=Score(1.5, 0.5, [Contribution("covisit_log", 0.75, 1.0, 0.2), Contribution("age", 0.25)], False),
)
Explain = Callable[[str, str, str | None], Awaitable[bytes]]


async def said(user_id: str, item_id: str, placement: str | None) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(FOUND, user_id=user_id, item_id=item_id))


async def away(user_id: str, item_id: str, placement: str | None) -> bytes:
    raise StateUnavailable("Redis did not answer")


@contextmanager
def served(explain: Explain | None) -> Iterator[str]:
    """A status server in a thread; gives its address."""
    port, up, down = free_port(), Event(), Event()

    async def serve() -> None:
        server = StatusServer(Telemetry(), lambda: ["joining the consumer group"], Progress(lambda: 0.0, 1.0))
        server.explain = explain
        await server.start("127.0.0.1", port)
        up.set()
        await asyncio.to_thread(down.wait)
        await server.stop()

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert up.wait(30)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        down.set()
        thread.join()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["explain", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_an_explanation_is_shown_with_what_adds_up_and_what_would_change() -> None:
    with served(said) as url:
        shown = run("ann", "cup", "--worker", url)
    assert "it is in the list, 1. of 7 candidates by score" in shown
    assert "because you viewed red mug" in shown
    assert "+0.750  covisit_log" in shown
    assert "without what the shopper did to red mug" in shown
    assert "reranker 3" in shown


def test_why_not_says_only_the_stage_and_the_cure() -> None:
    with served(said) as url:
        shown = run("ann", "--why-not", "cup", "--worker", url)
    assert len(shown.splitlines()) == 2


def test_json_is_the_whole_explanation() -> None:
    with served(said) as url:
        shown = run("ann", "cup", "--worker", url, "--json")
    assert msgspec.json.decode(shown, type=Explanation) == FOUND


def test_without_a_worker_the_command_says_how_to_start_one() -> None:
    with pytest.raises(Unavailable, match="streamrec worker"):
        run("ann", "cup", "--worker", f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(("explain", "words"), [(None, "joining the consumer group"), (away, "Redis")])
def test_a_worker_that_cannot_says_why(explain: Explain | None, words: str) -> None:
    with served(explain) as url, pytest.raises(Unavailable, match=words):
        run("ann", "cup", "--worker", url)


def test_an_item_has_to_be_named_and_one_only() -> None:
    assert "--why-not" in run("ann")
    assert "--why-not" in run("ann", "cup", "--why-not", "mug")


def test_a_question_that_names_nobody_is_refused() -> None:
    with served(said) as url, pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"{url}/explain?item=cup", timeout=30)
