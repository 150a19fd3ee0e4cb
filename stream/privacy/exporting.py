"""Gather all that is kept of one shopper, as JSON values."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec

from stream.adapters import redis_client
from stream.adapters.kafka_dead_letters import read_letters
from stream.adapters.kafka_reading import records_of, values_beside
from stream.adapters.letter_record import users_of
from stream.adapters.redis_kept_lists import RedisKeptLists
from stream.adapters.redis_state import RedisStateStore
from stream.config import Config
from stream.core import list_log
from stream.core.attribution import KeptList
from stream.core.events import results_key
from stream.core.state import UserState
from stream.errors import InvalidMessage

STEPS = 7
Tell = Callable[[int, str], None]
"""Is told how many of the `STEPS` are done, and what is read now."""


async def export(config: Config, user_id: str, tell: Tell = lambda done, what: None) -> dict[str, Any]:
    """Gather a shopper's data: state, lists, events, what came of lists, and messages set aside.

    Raises:
        Unavailable: Kafka or Redis did not answer.
    """
    topics, key = config.topics, user_id.encode()
    tell(0, "state")
    async with redis_client.connect(config.redis) as client:
        states = RedisStateStore(client, config.redis.key_prefix, config.redis.user_ttl_days)
        state = (await states.load([user_id]))[user_id]
        store = RedisKeptLists(client, config.policy.attribution_hours, config.redis.key_prefix)
        kept = (await store.recall([user_id]))[user_id]
    tell(1, topics.recommendations)
    lists = await values_beside(config.kafka, topics.recommendations, key, results_key(user_id, ""))
    found: dict[str, Any] = {
        "user_id": user_id,
        "state": plain_state(state),
        "lists": [msgspec.json.decode(value) for value in lists.values()],
        "kept_lists": [_plain_list(one) for one in kept],
    }
    for done, (name, topic) in enumerate(
        (("clicks", topics.clicks), ("searches", topics.searches), ("attributions", topics.attributions)), 2
    ):
        tell(done, topic)
        records = await records_of(config.kafka, topic, key)
        found[name] = [_content(record.value) for record in records]
    tell(5, topics.list_log)
    logged = [_plain_log(one.value) for one in await records_of(config.kafka, topics.list_log, key)]
    found["list_log"] = [one for one in logged if one is not None]
    tell(6, topics.dead_letters)
    found["dead_letters"] = letters = []
    async for read in read_letters(config):
        letters += [
            {
                "letter": one.place,
                "failed_at": one.failed_at,
                "topic": one.letter.message.source.topic,
                "code": one.letter.code,
                "reason": one.letter.reason,
                "value": _content(one.letter.message.value),
            }
            for one in read.records
            if user_id in users_of(one)
        ]
    tell(STEPS, "done")
    return found


def plain_state(state: UserState) -> dict[str, Any]:
    """A state with its facts named, as it is printed for programs."""
    return {
        "sequence": state.sequence,
        "interactions": [
            {"at_ms": i.at_ms, "item_id": i.item_id, "event_type": i.event_type} for i in state.interactions
        ],
        "searches": [{"at_ms": s.at_ms, "query": s.query} for s in state.searches],
        "owned": [{"at_ms": o.at_ms, "item_id": o.item_id} for o in state.owned],
        "erased_ms": state.erased_ms,
    }


def _plain_list(one: KeptList) -> dict[str, Any]:
    return {**one._asdict(), "items": [item._asdict() for item in one.items]}


def _plain_log(value: bytes | None) -> dict[str, Any] | None:
    """A logged list without the numbers it was ranked by, which are the shop's; None for what is none."""
    try:
        one = list_log.decode(value or b"")
    except InvalidMessage:
        return None
    return {
        "recommendation_id": one.recommendation_id,
        "placement": one.placement,
        "at_ms": one.at_ms,
        "candidates": one.items,
        "shown": [one.items[place] for place in one.shown],
    }


def _content(value: bytes | None) -> Any:
    """The JSON of a message; where it is none, its text, or its bytes in base64."""
    if value is None:
        return None
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
