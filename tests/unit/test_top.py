"""What `streamrec top` makes of workers' metrics."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from typer.testing import CliRunner

from stream.cli.root import app
from stream.errors import Unavailable
from stream.process.progress import Progress
from stream.telemetry.metrics import FRESHNESS_BUCKETS_S, StatusServer, StoreMemory, Telemetry
from stream.telemetry.running import Told, compare, quantile, read


class Busy(Telemetry):
    """The metrics of a worker that makes ten lists between two looks, each 20 ms after its event."""

    def show(self, progress: Progress) -> None:
        super().show(progress)
        self.lists.inc(10)
        self.events.labels("clicks").inc(20)
        self.batch_size.labels("events").observe(4)
        self.stage.labels("rerank").observe(0.008)
        self.degraded.labels("reranker").inc(5)
        self.count_lookups("rows", 8, 2)
        self.messages_left.labels("clicks", "0").set(3)
        self.messages_left.labels("clicks", "1").set(4)
        self.show_index({"1": 90, "2": 100}, "2")
        self.catalogue_items.set(100)
        self.show_redis(StoreMemory(5_000_000, 0, 0))
        for _ in range(10):
            self.freshness.observe(0.0199)


@contextmanager
def serving(telemetry: Telemetry) -> Iterator[str]:
    """A status server in a thread; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    up, down = Event(), Event()

    async def serve() -> None:
        server = StatusServer(telemetry, list, Progress(lambda: 0.0, 1.0))
        await server.start("127.0.0.1", port)
        up.set()
        await asyncio.to_thread(down.wait)
        await server.stop()

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert up.wait(60)
        yield f"127.0.0.1:{port}"
    finally:
        down.set()
        thread.join()


def test_workers_are_told_of_one_by_one_and_together_and_one_that_is_away_says_why() -> None:
    with serving(Busy()) as one, serving(Busy()) as two:
        options = [
            word for url in (one, f"http://{two}/metrics", "127.0.0.1:1") for word in ("--metrics", url)
        ]
        run = CliRunner().invoke(app, ["top", *options, "--once", "--json", "--every", "0.1"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert [worker["ready"] for worker in told["workers"]] == [True, True, False]
    away = told["workers"][2]
    assert (away["standing"], away["url"]) == (None, "http://127.0.0.1:1/metrics")
    assert "Connect call failed" in away["problem"]
    for worker in told["workers"][:2]:
        assert worker["standing"]["messages_left"] == 7
        assert worker["standing"]["batch_messages"] == 4
        assert 15 < worker["standing"]["freshness"]["p50_ms"] <= 20
    together = told["together"]
    assert round(together["lists_per_s"] * told["seconds"]) == 20
    assert round(together["events_per_s"] * told["seconds"]) == 40
    assert told["messages_left"] == {"clicks": 14}
    assert told["stages_ms"] == {"rerank": pytest.approx(8)}
    assert told["degraded"] == {"reranker": 0.5}
    assert told["found"] == {"rows": 0.75}
    assert (told["index"], told["serving"], told["items"]) == ({"1": 90, "2": 100}, ["2"], 100)
    assert told["redis"] == {"used_bytes": 5_000_000, "max_bytes": 0, "errors_per_s": 0.0}


def test_the_picture_names_what_a_person_looks_for() -> None:
    with serving(Busy()) as one:
        run = CliRunner().invoke(
            app,
            ["top", "--metrics", one, "--metrics", "127.0.0.1:1", "--once", "--every", "0.1"],
            env={"COLUMNS": "200"},
        )
    assert run.exit_code == 0, run.output
    for words in (
        one,
        "ready",
        "Connect call failed",
        "together",
        "rerank",
        "8.0",
        "reranker",
        "50.0%",
        "2 (serves)",
    ):
        assert words in run.stdout, words
    assert "no bound" in run.stdout


def test_a_cluster_of_which_nobody_answers_is_an_error_with_cause_and_cure() -> None:
    run = CliRunner().invoke(app, ["top", "--metrics", "127.0.0.1:1", "--once", "--every", "0.1"])
    assert isinstance(run.exception, Unavailable)
    assert "http://127.0.0.1:1/metrics" in str(run.exception)
    assert "--metrics" in str(run.exception)


def test_of_a_worker_that_began_anew_only_what_it_did_since_counts() -> None:
    def at(at_s: float, lists: int) -> Told:
        telemetry = Telemetry()
        telemetry.lists.inc(lists)
        return Told(at_s, read(generate_latest(telemetry.registry).decode()))

    cluster = compare({"a": at(0, 1_000), "b": at(0, 50)}, {"a": at(10, 30), "b": at(10, 70)})
    assert [worker.standing and worker.standing.lists_per_s for worker in cluster.workers] == [3, 2]
    assert cluster.together.lists_per_s == 5
    assert cluster.together.freshness is None
    assert cluster.redis.used_bytes is None


@given(st.lists(st.floats(0.0, 9.9), min_size=1, max_size=50), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_it_stands_for(
    seen: list[float], share: float
) -> None:
    bounds = [
        (bound, float(sum(value <= bound for value in seen))) for bound in (*FRESHNESS_BUCKETS_S, math.inf)
    ]
    exact = sorted(seen)[math.ceil(share * len(seen)) - 1]
    upper = min(bound for bound in FRESHNESS_BUCKETS_S if bound >= exact)
    lower = max((bound for bound in FRESHNESS_BUCKETS_S if bound < upper), default=0.0)
    assert lower <= quantile(bounds, share) <= upper


def test_what_is_later_than_the_last_bound_counts_as_that() -> None:
    assert quantile([(1.0, 0.0), (10.0, 0.0), (math.inf, 4.0)], 0.5) == 10.0
