"""A follower goes on whatever its client does when it is stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from stream.adapters import kafka_follower
from stream.adapters.kafka_clients import stopped
from stream.adapters.kafka_follower import TopicFollower
from stream.config import Config

ONLY = TopicPartition("rules", 0)


class EmptyTopic:
    """Stands in for aiokafka's consumer; each is interrupted as the next of `endings` says."""

    endings: list[BaseException]

    def __init__(self, *_: object, **__: object) -> None:
        self._ending = self.endings.pop() if self.endings else None

    async def start(self) -> None:
        if self._ending:
            raise KafkaTimeoutError("the broker went away")

    async def stop(self) -> None:
        if self._ending:
            raise self._ending

    def assignment(self) -> set[TopicPartition]:
        return {ONLY}

    async def end_offsets(self, _: object) -> dict[TopicPartition, int]:
        return {ONLY: 0}

    async def position(self, _: object) -> int:
        return 0

    async def getmany(self, **_: object) -> dict[Any, Any]:
        await asyncio.sleep(0.01)
        return {}


@pytest.mark.parametrize("ending", [asyncio.CancelledError(), KafkaError("not closed"), OSError("gone")])
def test_a_client_that_fails_while_it_is_stopped_is_followed_by_another(
    ending: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmptyTopic, "endings", [ending, ending], raising=False)
    monkeypatch.setattr(kafka_follower, "AIOKafkaConsumer", EmptyTopic)
    monkeypatch.setattr(kafka_follower, "RETRY_S", 0.01)

    async def go() -> None:
        async with asyncio.timeout(20):
            await TopicFollower(Config().kafka, "rules", lambda _: None).read_once()

    asyncio.run(go())
    assert EmptyTopic.endings == []


def test_a_request_that_had_not_begun_does_not_cancel_who_stops_its_client() -> None:
    async def stop() -> None:
        request = asyncio.ensure_future(asyncio.sleep(0))
        request.cancel()
        await request  # as aiokafka's fetcher does

    async def go() -> str:
        await stopped(stop)
        return "went on"

    assert asyncio.run(go()) == "went on"


def test_other_failures_of_stopping_are_told() -> None:
    async def stop() -> None:
        raise KafkaError("not sent")

    with pytest.raises(KafkaError, match="not sent"):
        asyncio.run(stopped(stop))
