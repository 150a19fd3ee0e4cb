"""What lies in Kafka and Redis when all is over, and what was noted on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from aiokafka.structs import ConsumerRecord

from faults.engine import BrokenEngine
from faults.lives import Lives
from faults.publisher import Acknowledged
from faults.workers import Ended
from stream.adapters import letter_record
from stream.adapters.kafka_reading import decoded_since
from stream.adapters.redis_signals import RedisSignalStore
from stream.adapters.redis_state import RedisStateStore
from stream.core.events import RecommendationList, Source
from stream.core.policy import Policy
from stream.core.signals import Increment, ItemSignals, decode_increments
from stream.core.state import UserState
from stream.ports import Place, RawMessage

_list_decoder = msgspec.json.Decoder(RecommendationList)


class Published(NamedTuple):
    """A list as a reader of the topic got it."""

    partition: int
    offset: int
    appended_ms: int
    made: RecommendationList


class Letter(NamedTuple):
    """A dead letter: where its message lay, and what it says."""

    source: tuple[str, int, int]
    key: bytes | None
    value: bytes | None
    code: str


class Commits(NamedTuple):
    """What the workers' group had committed at the latest at a time, by topic and partition."""

    at_ms: int
    offsets: Mapping[tuple[str, int], int]


class Incident(NamedTuple):
    """A fault as it happened, epoch milliseconds."""

    kind: str
    victim: str
    begun_ms: int
    ended_ms: int


@dataclass(frozen=True)
class Evidence:
    """All that the referee judges by.

    `events` is what lies in `clicks` and `searches`, in the order of each partition; `states` and `rows` what
    lies in Redis. What lay in topics before they were made anew comes first, named as `Lives` names it;
    `lives` says what the engine calls those that came after. `undrained` says how many messages of which
    partition were never committed, `stuck` which workers were never ready.
    """

    searches_topic: str
    policy: Policy
    events: Sequence[RawMessage]
    acknowledged: Sequence[Acknowledged] = ()
    lists: Sequence[Published] = ()
    letters: Sequence[Letter] = ()
    increments: Sequence[tuple[str, Increment]] = ()
    states: Mapping[str, UserState] = field(default_factory=dict)
    rows: Mapping[str, ItemSignals] = field(default_factory=dict)
    commits: Sequence[Commits] = ()
    incidents: Sequence[Incident] = ()
    undrained: Mapping[tuple[str, int], int] = field(default_factory=dict)
    ended: Sequence[Ended] = ()
    stuck: Sequence[str] = ()
    lives: Mapping[Place, int] = field(default_factory=dict)


async def gather(
    engine: BrokenEngine,
    users: Sequence[str],
    items: Sequence[str],
    acknowledged: Sequence[Acknowledged],
    commits: Sequence[Commits],
    incidents: Sequence[Incident],
    undrained: Mapping[tuple[str, int], int],
) -> Evidence:
    """Read everything. Raises `Unavailable` where a server does not answer."""
    topics, prefix = engine.config.topics, engine.config.redis.key_prefix
    lives = Lives(engine.former, await lying(engine))
    states = await RedisStateStore(engine.redis, prefix).load(users)
    rows = await RedisSignalStore(engine.redis, prefix).load(items)
    return Evidence(
        searches_topic=topics.searches,
        policy=engine.config.policy,
        events=lives.events(),
        acknowledged=list(lives.acknowledged(acknowledged)),
        lists=[
            _list(one, lives) for one in await _all(engine, topics.recommendations) if one.value is not None
        ],
        letters=[_letter(one, lives) for one in await _all(engine, topics.dead_letters)],
        increments=[
            (taught.item_id, increment)
            for one in await _all(engine, topics.item_signals)
            for taught in decode_increments(one.key, one.value)
            for increment in taught.increments
        ],
        states=states,
        rows={item_id: stored.signals for item_id, stored in rows.items()},
        commits=[Commits(one.at_ms, lives.offsets(*one)) for one in commits],
        incidents=incidents,
        undrained=undrained,
        ended=engine.workers.ended,
        lives=lives.numbers(),
    )


async def lying(engine: BrokenEngine) -> list[RawMessage]:
    """Read `clicks` and `searches` whole. Raises `Unavailable` where Kafka does not answer."""
    topics = engine.config.topics
    return [_raw(one) for topic in (topics.clicks, topics.searches) for one in await _all(engine, topic)]


async def _all(engine: BrokenEngine, topic: str) -> list[ConsumerRecord]:
    """Every record of a topic, in the order of each partition."""
    records: list[ConsumerRecord] = []
    async for some in decoded_since(engine.config.kafka, topic, lambda record: record, ()):
        records += some.records
    return sorted(records, key=lambda record: (record.partition, record.offset))


def _raw(record: ConsumerRecord) -> RawMessage:
    source = Source(record.topic, record.partition, record.offset, record.timestamp)
    return RawMessage(source, record.key, record.value, ())


def _list(record: ConsumerRecord, lives: Lives) -> Published:
    made = _list_decoder.decode(record.value)
    made = msgspec.structs.replace(made, trigger=lives.trigger(made.trigger))
    return Published(record.partition, record.offset, record.timestamp, made)


def _letter(record: ConsumerRecord, lives: Lives) -> Letter:
    message, code, _ = letter_record.decode(
        record.partition, record.offset, record.key, record.value, record.headers
    ).letter
    source = lives.letter(message.source[:3], message.key, message.value)
    return Letter(source, message.key, message.value, code)
