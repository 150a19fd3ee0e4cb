"""Print how a worker compares with a loop that only does its errands: python load_tests/bare_loop.py

Example:

    python load_tests/bare_loop.py --rounds 5 --json bare.json
    python load_tests/bare_loop.py --lists 48 --cross-encoder 20

Starts Kafka, Redis and Triton of its own, and a worker with the demo's shop and a past. Each round publishes
one event of each shopper at once, so that each leads to one list, to three in turn, on the same servers:

- the worker;
- the bare loop: aiokafka, Redis and Triton's client, nothing else. It takes the same events, reads and writes
  a state as large as the shoppers' for each, asks Triton for the very scores that the worker asked for (the
  rows of features are those that the worker logged, and each new query is encoded), publishes a list as long,
  and commits when all of a batch is acknowledged. What a worker adds to that is what the engine costs;
- Triton alone: the same requests, without Kafka and Redis.

With `--cross-encoder` Triton is what limits: each event is a search with words that nobody searched for
before, and so many pairs of it and a product are read. Which products those were is not logged, so the other
two ask for the pairs of what was listed, as many and of the same catalogue.

The rate is the number of lists over the time from the first event's append to the last list's, by Kafka's
timestamps; CPU is what the kernel counted for the process, until it had nothing left to do. Ratios are taken
round by round, so what else the machine does moves them less than the rates. Give it a machine to itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

# Not the checkout's root: its folder `triton` on the path would shadow the package of that name.
sys.path.insert(0, str(Path(__file__).parent))

import msgspec
import numpy as np
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.structs import ConsumerRecord
from bench_worker import PARTITIONS, STEP_MS, THIS_BUILD, Worker, cpu_s, servers, spread
from tritonclient.grpc import InferInput, InferRequestedOutput

from stream.adapters import redis_client, triton_servers
from stream.adapters.kafka_clients import admin, consumer, producer
from stream.cli.progress import progress_bar
from stream.config import Config, load_config
from stream.core import list_log
from stream.core.events import ClickMessage, ItemMessage, SearchMessage
from stream.core.items import FloatArray
from stream.core.ranking import FEATURES
from stream.importers.synthetic import make_events, make_items
from stream.lists.pair_scores import PAIRS_A_REQUEST, PAIRS_IN_FLIGHT
from stream.local.processes import die_with_parent
from stream.local.stack import Stack

Event = ClickMessage | SearchMessage

LISTED = 20
STATE_BYTES = 820
"""What a shopper's state with fifty interactions takes."""
STATE_TTL_MS = 600_000
BATCH_MAX = 64
IN_FLIGHT = 64
"""Lists whose requests are with Triton at one time, where it is asked alone: as many as a worker's batch."""
PATIENCE_S = 300.0
NAMES = ("worker", "bare loop", "Triton alone")


class Drained(NamedTuple):
    """What came of a backlog."""

    lists: int
    seconds: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        return self.lists / self.seconds

    @property
    def cpu_ms_a_list(self) -> float:
        return self.cpu_s / self.lists * 1e3


class Request(msgspec.Struct, frozen=True):
    """What is asked of Triton for one event.

    `query` is empty where there is none, or its vector is known. `rows` are half-precision numbers
    [n, len(FEATURES)], as they were logged. `texts` are those that the cross-encoder reads with the query.
    """

    event_id: str
    query: str
    rows: bytes
    texts: list[str] = []


class Order(msgspec.Struct, frozen=True):
    """What the process of the bare loop is told to do, on a line of its stdin; the requests are in a file."""

    requests: str
    alone: bool


def main() -> int:
    """Measure as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python load_tests/bare_loop.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--lists", type=int, default=500, help="of a round (default %(default)s)")
    parser.add_argument(
        "--past", type=int, default=8, help="events of a shopper before (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="chooses who does what")
    parser.add_argument(
        "--cross-encoder",
        type=int,
        default=0,
        choices=range(LISTED + 1),
        metavar="PAIRS",
        help="have every event be a new search, of which so many candidates are read (default %(default)s)",
    )
    parser.add_argument("--worker", default=THIS_BUILD, metavar="COMMAND", help="the build to be measured")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--loop", help=argparse.SUPPRESS)  # what a process of its own is started with
    given = parser.parse_args()
    if given.loop:
        asyncio.run(Loop(load_config(), given.loop).run())
        return 0
    if given.cross_encoder:
        os.environ |= waiting_for(given.cross_encoder)  # for the worker
    with servers() as (stack, folder):
        rounds = asyncio.run(compare(stack, folder, shlex.split(given.worker), given))
    print("\n".join(told(rounds)))
    if given.json:
        figures = [{name: drained._asdict() for name, drained in one.items()} for one in rounds]
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def told(rounds: Sequence[dict[str, Drained]]) -> list[str]:
    """The figures as lines: medians over the rounds, with the least and the most."""
    lines = [f"{len(rounds)} rounds of {rounds[0]['worker'].lists} lists"]
    for name in NAMES:
        some = [one[name] for one in rounds]
        lines.append(
            f"  {name + ':':14s} {spread([one.per_s for one in some])} lists/s, "
            f"{spread([one.cpu_ms_a_list for one in some])} ms of CPU a list"
        )
    for name in NAMES[1:]:
        rates = [one["worker"].per_s / one[name].per_s for one in rounds]
        cpu = [one["worker"].cpu_s / one[name].cpu_s for one in rounds]
        lines.append(f"  worker ÷ {name}: {spread(rates)} of its lists/s, {spread(cpu)} times its CPU a list")
    return lines


async def compare(
    stack: Stack, folder: Path, command: Sequence[str], given: argparse.Namespace
) -> list[dict[str, Drained]]:
    """Run all rounds; each gives what came of its backlog by name."""
    items = make_items()
    past, *backlogs = backlogs_of(items, given.lists, given.past, given.rounds + 1, given.seed)
    if given.cross_encoder:
        backlogs = [new_searches(backlog, items, turn) for turn, backlog in enumerate(backlogs)]
    worker = Worker(stack, folder, command, items)
    await worker.start()
    try:
        await worker.take(past)
        known = {event.search_query for event in past if isinstance(event, SearchMessage)}
        rounds = []
        async with bare_loop(worker.config, folder) as loop:
            with progress_bar("rounds", len(backlogs)) as show:
                for number, backlog in enumerate(backlogs):
                    show(number, "")
                    by_worker, requests = await _by_worker(worker, backlog, known, given.cross_encoder)
                    rounds.append(
                        {
                            "worker": by_worker,
                            "bare loop": await loop.drain(backlog, requests),
                            "Triton alone": await loop.ask_alone(requests),
                        }
                    )
        return rounds[1:]  # the first one is to warm up
    finally:
        await worker.stop()


def backlogs_of(
    items: Sequence[ItemMessage], shoppers: int, past: int, rounds: int, seed: int
) -> list[list[Event]]:
    """So many events of each shopper as a past, then one of each for every round.

    Each shopper's order stays. Their times are `STEP_MS` apart and end now.
    """
    of: dict[str, list[Event]] = {}
    enough = past + rounds
    for event in make_events(items, seed, shoppers=shoppers, start_ms=0):
        of.setdefault(event.user_id, []).append(event)
        if len(of) == shoppers and all(len(events) >= enough for events in of.values()):
            break
    first_ms = time.time_ns() // 1_000_000 - shoppers * enough * STEP_MS
    turns = [
        [
            msgspec.structs.replace(events[turn], event_time=first_ms + (turn * shoppers + place) * STEP_MS)
            for place, events in enumerate(of.values())
        ]
        for turn in range(enough)
    ]
    return [[event for turn in turns[:past] for event in turn], *turns[past:]]


def new_searches(backlog: Sequence[Event], items: Sequence[ItemMessage], turn: int) -> list[Event]:
    """Have the shoppers of a backlog search for words that nobody searched for before."""
    queries = (" ".join(item.title.split()[:3]) for item in islice(cycle(items), turn, None))
    return [
        SearchMessage(event.event_id, event.event_time, event.user_id, f"{query} {turn} {place}")
        for place, (event, query) in enumerate(zip(backlog, queries, strict=False))
    ]


def waiting_for(pairs: int) -> dict[str, str]:
    """Have a worker wait for so many pairs of each search, and take no more than may be asked for at once."""
    patience_ms = str(round(PATIENCE_S * 1e3))
    return {
        "STREAMREC_TRITON__CROSS_ENCODER_BEST": str(pairs),
        **{
            f"STREAMREC_TRITON__{what}_DEADLINE_MS": patience_ms
            for what in ("ENCODE", "RERANK", "CROSS_ENCODE")
        },
        "STREAMREC_WORKER__BATCH_MAX": str(PAIRS_IN_FLIGHT // pairs),
    }


async def _by_worker(
    worker: Worker, backlog: Sequence[Event], known: set[str], pairs: int
) -> tuple[Drained, list[Request]]:
    """Have the worker make its lists; give what came of it, and what it asked of Triton.

    Args:
        known: queries that it has asked about before; those of the backlog join them.
        pairs: of each search, that the cross-encoder read.
    """
    topics = worker.config.topics
    read = (topics.clicks, topics.searches, topics.recommendations, topics.list_log)
    async with _from_now(worker.config, *read) as news:
        phase = await worker.take(backlog)
        records = await news()
    logged = {one.trigger.event_id: one for one in map(list_log.decode, records[topics.list_log].values)}
    if logged.keys() != {event.event_id for event in backlog}:
        raise SystemExit("the worker did not make one list for each event")
    if pairs and phase.degraded:
        raise SystemExit(f"the worker made {phase.degraded:.0f} lists without a part")
    requests = []
    for event in backlog:
        query = event.search_query if isinstance(event, SearchMessage) else ""
        one = logged[event.event_id]
        texts = [worker.texts[one.items[place]] for place in one.shown[:pairs]]
        requests.append(Request(event.event_id, "" if query in known else query, one.rows, texts))
        known.add(query)
    first_ms = min(
        records[topic].first_ms for topic in (topics.clicks, topics.searches) if records[topic].values
    )
    seconds = (records[topics.recommendations].last_ms - first_ms) / 1_000
    return Drained(len(backlog), seconds, phase.cpu_s), requests


class News(NamedTuple):
    """What came to a topic: the messages, and by Kafka's clock when the first and the last did."""

    values: list[bytes]
    first_ms: int
    last_ms: int


@asynccontextmanager
async def _from_now(config: Config, *topics: str) -> AsyncIterator[Callable[[], Awaitable[dict[str, News]]]]:
    """Note where topics end; what is given reads what came since, by topic."""
    async with consumer(config.kafka, *topics) as reader:
        for partition in reader.assignment():
            await reader.position(partition)

        async def news() -> dict[str, News]:
            ends = await reader.end_offsets(reader.assignment())
            found: dict[str, list[ConsumerRecord]] = {topic: [] for topic in topics}
            while any([await reader.position(partition) < end for partition, end in ends.items()]):
                for some in (await reader.getmany(timeout_ms=200)).values():
                    for record in some:
                        found[record.topic].append(record)
            return {topic: _summed_up(records) for topic, records in found.items()}

        yield news


def _summed_up(records: Sequence[ConsumerRecord]) -> News:
    times = [record.timestamp for record in records]
    return News([record.value for record in records], min(times, default=0), max(times, default=0))


class BareLoop:
    """The process of the bare loop, seen from outside."""

    def __init__(self, config: Config, name: str, folder: Path, process: asyncio.subprocess.Process) -> None:
        self._config = config
        self._events, self._lists = topics_of(name)
        self._folder = folder
        self._process = process

    async def drain(self, backlog: Sequence[Event], requests: Sequence[Request]) -> Drained:
        """Have it make a list for each event."""
        await self._order(requests, alone=False)
        async with (
            producer(self._config.kafka) as client,
            _from_now(self._config, self._events, self._lists) as news,
        ):
            before_s = cpu_s(self._process.pid)
            sent = [
                await client.send(self._events, msgspec.json.encode(event), key=event.user_id.encode())
                for event in backlog
            ]
            await asyncio.gather(*sent)
            await self._line()
            used_s = cpu_s(self._process.pid) - before_s
            records = await news()
        seconds = (records[self._lists].last_ms - records[self._events].first_ms) / 1_000
        return Drained(len(records[self._lists].values), seconds, used_s)

    async def ask_alone(self, requests: Sequence[Request]) -> Drained:
        """Have it ask Triton, and nothing else."""
        before_s = cpu_s(self._process.pid)
        seconds = float(await self._order(requests, alone=True))
        return Drained(len(requests), seconds, cpu_s(self._process.pid) - before_s)

    async def _order(self, requests: Sequence[Request], *, alone: bool) -> str:
        file = self._folder / "requests.msgpack"
        file.write_bytes(msgspec.msgpack.encode(requests))
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(Order(str(file), alone)) + b"\n")
        return await self._line()

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        if not line:
            raise SystemExit("the bare loop ended by itself")
        return line.decode()


def topics_of(name: str) -> tuple[str, str]:
    """The topics of events and of lists of a bare loop."""
    return f"{name}-events", f"{name}-lists"


@asynccontextmanager
async def bare_loop(config: Config, folder: Path) -> AsyncIterator[BareLoop]:
    """Start the process, with topics of its own on the servers of the settings."""
    name = f"bare-loop-{uuid.uuid4().hex[:8]}"
    environment = {
        "STREAMREC_KAFKA__BOOTSTRAP": config.kafka.bootstrap,
        "STREAMREC_REDIS__URL": config.redis.url,
        "STREAMREC_TRITON__URL": config.triton.url,
    }
    async with admin(config.kafka) as client:
        times = {"message.timestamp.type": "LogAppendTime"}
        topics = [NewTopic(topic, PARTITIONS, 1, topic_configs=times) for topic in topics_of(name)]
        await client.create_topics(topics)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", __file__, "--loop", name),
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent(),
        )
        try:
            yield BareLoop(config, name, folder, process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await client.delete_topics(list(topics_of(name)))


class Loop:
    """The bare loop itself."""

    def __init__(self, config: Config, name: str) -> None:
        self._config = config
        self._name = name
        self._events, self._lists = topics_of(name)

    async def run(self) -> None:
        """Do what stdin says, until it ends."""
        [server] = triton_servers.connect(self._config.triton)
        self._triton = server.client
        redis = redis_client.connect(self._config.redis)
        async with (
            producer(self._config.kafka, linger_ms=0) as client,
            consumer(self._config.kafka, group_id=self._name, auto_offset_reset="earliest") as reader,
        ):
            reader.assign([TopicPartition(self._events, one) for one in range(PARTITIONS)])
            while line := await asyncio.to_thread(sys.stdin.readline):
                alone, requests = _read(line)
                if alone:
                    print(await self._ask_alone(requests), flush=True)
                else:
                    print("ready", flush=True)
                    await self._drain({one.event_id: one for one in requests}, client, reader, redis)
                    print("done", flush=True)

    async def _drain(self, requests: dict[str, Request], client: Any, reader: Any, redis: Any) -> None:
        left = len(requests)
        while left:
            batches = await reader.getmany(timeout_ms=100, max_records=BATCH_MAX)
            events = [msgspec.json.decode(record.value) for some in batches.values() for record in some]
            if not events:
                continue
            keys = [f"{self._name}:{event['user_id']}" for event in events]
            states = await redis.mget(keys)
            scores = await asyncio.gather(
                *(self._scores(requests[event["event_id"]], " ") for event in events)
            )
            pipeline = redis.pipeline(transaction=False)
            for key, state in zip(keys, states, strict=True):
                pipeline.set(key, state or bytes(STATE_BYTES), px=STATE_TTL_MS)
            await pipeline.execute()
            sent = [
                await client.send(self._lists, list_of(event, of_event), key=event["user_id"].encode())
                for event, of_event in zip(events, scores, strict=True)
            ]
            await asyncio.gather(*sent)
            await reader.commit({at: some[-1].offset + 1 for at, some in batches.items()})
            left -= len(events)

    async def _ask_alone(self, requests: Sequence[Request]) -> float:
        """Ask for all scores, `IN_FLIGHT` lists at a time; return the seconds it took."""
        waiting = list(reversed(requests))

        async def ask() -> None:
            while waiting:
                await self._scores(waiting.pop(), "  ")

        began_s = time.monotonic()
        await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
        return time.monotonic() - began_s

    async def _scores(self, request: Request, ending: str) -> FloatArray:
        """Ask Triton for what a list needs.

        Args:
            ending: spaces after a query. No model sees them, but Triton's cache does not know the bytes.
        """
        if request.query:
            text = _texts("TEXT", [request.query + ending])
            await self._infer(self._config.triton.encoder, [text], "EMBEDDING")
        rows = np.frombuffer(request.rows, "<f2").reshape(1, -1, len(FEATURES)).astype(np.float32)
        features = InferInput("FEATURES", list(rows.shape), "FP32")
        features.set_data_from_numpy(rows)
        parts = [
            request.texts[start:][:PAIRS_A_REQUEST] for start in range(0, len(request.texts), PAIRS_A_REQUEST)
        ]
        [scores], *_ = await asyncio.gather(
            self._infer(self._config.triton.reranker, [features], "SCORES"),
            *(
                self._infer(
                    self._config.triton.cross_encoder,
                    [_texts("LEFT", [request.query + ending] * len(part)), _texts("RIGHT", part)],
                    "SCORE",
                )
                for part in parts
            ),
        )
        return scores

    async def _infer(self, model: str, tensors: list[InferInput], output: str) -> FloatArray:
        outputs = [InferRequestedOutput(output)]
        answer = await self._triton.infer(model, tensors, outputs=outputs, client_timeout=PATIENCE_S)
        return np.asarray(answer.as_numpy(output))


def _texts(name: str, texts: Sequence[str]) -> InferInput:
    tensor = InferInput(name, [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=np.object_))
    return tensor


def _read(line: str) -> tuple[bool, list[Request]]:
    """Read an order, and the requests that it names."""
    order = msgspec.json.decode(line, type=Order)
    return order.alone, msgspec.msgpack.decode(Path(order.requests).read_bytes(), type=list[Request])


def list_of(event: dict[str, Any], scores: FloatArray) -> bytes:
    """A list as long as a real one, in the order of the scores."""
    items = [
        {
            "item_id": f"item-{place}",
            "rank": rank,
            "score": float(scores[place]),
            "source": "similar",
            "reason": f"because you viewed {event['event_id']}",
        }
        for rank, place in enumerate(np.argsort(-scores)[:LISTED].tolist(), 1)
    ]
    return msgspec.json.encode(
        {
            "schema_version": 1,
            "recommendation_id": event["event_id"],
            "user_id": event["user_id"],
            "sequence": 1,
            "generated_at": event["event_time"],
            "trigger": {"event_id": event["event_id"], "event_time": event["event_time"]},
            "items": items,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
