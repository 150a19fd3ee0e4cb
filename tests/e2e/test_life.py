"""A worker that does not move is dead and says so; one that waits is alive, and starts when all is there."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killed_servers import away
from odd_names import OddName, producers_that_send_them

from stream.adapters.kafka_clients import admin
from stream.adapters.kafka_topics import create_topics
from stream.local.ports import choose

pytestmark = pytest.mark.servers
WEDGED = str(Path(__file__).with_name("wedged_worker.py"))
STALLED_S = 5
IMPATIENT = {"STREAMREC_TELEMETRY__STALLED_S": str(STALLED_S)}


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def waited_s(said: str, what: str) -> float:
    """For how long a live worker says that it has waited for something; 0 where it does not wait."""
    found = re.search(
        rf"(?:waiting for (\d+) s: [^\n]*{what}|{what}, which has not answered for (\d+) s)", said
    )
    return float(found[1] or found[2]) if found else 0.0


def test_a_worker_whose_handler_hangs_is_dead_and_the_next_one_takes_over(
    run: Any, wait_until: Any, quick_death: dict[str, str]
) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker(sys.executable, WEDGED, **IMPATIENT, **quick_death).ready()
        items = await engine.load_shop(30)
        await engine.list_for(await engine.click("ann", items[0]))
        assert worker.status("/live") == (200, "alive\n")
        event = await engine.click("ann", "wedge")
        _, said = await wait_until(
            lambda: (told := worker.status("/live"))[0] == 503 and told, what="the worker is dead"
        )
        assert re.match(
            rf"events: {engine.config.topics.clicks}/\d has 1 messages left and nothing of it", said
        )
        assert worker.metric("streamrec_unmoved_seconds") > STALLED_S
        assert worker.metric("streamrec_messages_left", topic=engine.config.topics.clicks) == 1
        worker.kill()
        await engine.worker(**quick_death).ready()
        await engine.list_for(event)

    run(body)


@pytest.mark.parametrize(("name", "said"), [("redis", "Redis"), ("kafka", "Kafka")])
def test_a_worker_that_waits_longer_than_it_may_stand_still_is_alive_and_says_for_what(
    run: Any, wait_until: Any, name: str, said: str
) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker(**IMPATIENT).ready()
        items = await engine.load_shop(30)
        await engine.list_for(await engine.click("bob", items[0]))
        event = await engine.click("bob", items[1]) if name == "kafka" else None
        dead: list[str] = []

        def has_waited() -> bool:
            status, told = worker.status("/live")
            if status != 200:
                dead.append(told)
            return waited_s(told, said) > 2 * STALLED_S

        with away(engine.stack, name):
            if name == "redis":
                event = await engine.click("bob", items[1])
            await wait_until(has_waited, what=f"the worker has waited for {said}")
        assert not dead
        await engine.list_for(event)
        await wait_until(lambda: worker.status("/live") == (200, "alive\n"), what="nothing is waited for")

    run(body)


def test_a_header_whose_name_is_no_text_stops_no_partition(run: Any, wait_until: Any) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker().ready()
        items = await engine.load_shop(30)
        clicks = engine.config.topics.clicks
        odd = [(OddName(b"\xff\xfe"), b"1"), ("trace", b"2")]
        with producers_that_send_them():
            for topic, value in ((clicks, b"no json"), (engine.config.topics.items, b"none either")):
                for partition in range(4):
                    await engine.producer.send_and_wait(
                        topic, value, key=b"eve", partition=partition, headers=odd
                    )
        events = [await engine.click(f"user-{number}", items[number]) for number in range(16)]
        await engine.load({"item_id": "late", "title": "violet xylophone"})
        for event in events:
            await engine.list_for(event)
        await wait_until(lambda: worker.metric("streamrec_catalogue_items") == 31, what="the next product")
        await wait_until(lambda: len(engine.dead_letters) == 8, what="the letters")
        for letter in engine.dead_letters:
            headers = dict(letter.headers)
            assert headers["error-code"] == b"not_json"
            assert (headers["original-\\xff\\xfe"], headers["original-trace"]) == (b"1", b"2")
        assert worker.process.poll() is None

    run(body)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("STREAMREC_KAFKA__BOOTSTRAP", "waiting for Kafka: Kafka did not answer at"),
        ("STREAMREC_REDIS__URL", "waiting for Redis: "),
    ],
)
def test_a_worker_that_starts_without_a_part_waits_with_words_and_ends_when_told_to(
    run: Any, wait_until: Any, nowhere: str, setting: str, words: str
) -> None:
    async def body(engine: Any) -> None:
        address = f"redis://{nowhere}/0" if "REDIS" in setting else nowhere
        worker = engine.worker(**{setting: address}, **IMPATIENT)
        await wait_until(lambda: words in worker.status("/ready")[1], what=words)
        assert worker.status("/ready")[0] == 503
        status, said = worker.status("/live")
        assert status == 200
        assert words in said
        assert worker.log.read_text().count(words) == 1, "said once, not once a second"
        assert worker.terminate() == 0

    run(body)


def test_a_worker_that_starts_before_its_topics_waits_for_them_and_then_works(
    run: Any, wait_until: Any
) -> None:
    async def body(engine: Any) -> None:
        async with admin(engine.config.kafka) as client:
            await client.delete_topics([engine.config.topics.rules])
        worker = engine.worker()
        words = f"waiting for the topics: missing: {engine.config.topics.rules} (`streamrec topics create`"
        await wait_until(lambda: words in worker.status("/live")[1], what=words)
        await create_topics(engine.config)
        await worker.ready()
        items = await engine.load_shop(30)
        await engine.list_for(await engine.click("ann", items[0]))

    run(body)


def test_a_worker_that_starts_without_triton_makes_lists_and_says_what_they_lack(
    run: Any, wait_until: Any, nowhere: str
) -> None:
    async def body(engine: Any) -> None:
        worker = await engine.worker(STREAMREC_TRITON__URL=nowhere).ready()
        items = await engine.load_shop(30)
        made = await engine.list_for(await engine.click("ann", items[0]))
        assert made["degraded"] == ["reranker"]
        assert worker.status("/live")[0] == 200

    run(body)


def test_a_trainer_that_starts_before_its_topics_waits_for_them_and_ends_when_told_to(
    run: Any, wait_until: Any, tmp_path: Path
) -> None:
    async def body(engine: Any) -> None:
        gone = engine.config.topics.list_log
        async with admin(engine.config.kafka) as client:
            await client.delete_topics([gone])
        trainer = engine.worker(
            str(Path(sys.executable).with_name("streamrec")),
            "trainer",
            "--no-roll",
            STREAMREC_TRAINER__FOLDER=str(tmp_path / "trainer"),
            STREAMREC_TRAINER__PORT=str(port),
        )
        trainer.port = port
        words = f"waiting for the topics: missing: {gone}"
        await wait_until(lambda: words in trainer.status("/live")[1], what=words)
        assert trainer.status("/ready")[0] == 503
        await create_topics(engine.config)
        await trainer.ready()
        assert trainer.terminate() == 0

    (port,) = choose(("telemetry",)).values()
    run(body)
