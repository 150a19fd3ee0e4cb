"""A batch is tried until it succeeds; a message that makes the handler fail is found and set aside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from builders import raw_click

from stream import agents
from stream.agents import BatchAgent
from stream.errors import PublishUnavailable, StateUnavailable, Unavailable
from stream.fakes import MemoryPublisher
from stream.ports import RawMessage
from stream.telemetry import Telemetry


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "FIRST_PAUSE_S", 0.0001)
    monkeypatch.setattr(agents, "LONGEST_PAUSE_S", 0.001)


class Handler:
    """Notes what it was given; fails as it is told."""

    def __init__(self, fail: Callable[[Sequence[RawMessage]], Exception | None] = lambda _: None) -> None:
        self.batches: list[list[int]] = []
        self.done: list[int] = []
        self._fail = fail

    async def __call__(self, messages: Sequence[RawMessage]) -> None:
        self.batches.append([message.source.offset for message in messages])
        if error := self._fail(messages):
            raise error
        self.done += [message.source.offset for message in messages]


def _agent(handler: Handler, publisher: MemoryPublisher | None = None, batch_max: int = 8) -> BatchAgent:
    return BatchAgent("events", handler, publisher or MemoryPublisher(), Telemetry(), batch_max)


def _messages(count: int) -> list[RawMessage]:
    return [raw_click(offset=offset) for offset in range(count)]


def _poison(*offsets: int) -> Callable[[Sequence[RawMessage]], Exception | None]:
    def fail(messages: Sequence[RawMessage]) -> Exception | None:
        return ValueError("boom") if any(m.source.offset in offsets for m in messages) else None

    return fail


def test_a_good_batch_is_handled_once() -> None:
    handler = Handler()
    asyncio.run(_agent(handler)._finish(_messages(5)))
    assert handler.batches == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("poison", [[0], [4], [6], [2, 3], [0, 6], list(range(7))])
def test_messages_that_make_the_handler_fail_are_set_aside_and_the_others_handled(poison: list[int]) -> None:
    handler, publisher = Handler(_poison(*poison)), MemoryPublisher()
    messages = _messages(7)
    asyncio.run(_agent(handler, publisher)._finish(messages))
    assert handler.done == [offset for offset in range(7) if offset not in poison]
    assert [letter.message for letter in publisher.dead_letters] == [messages[offset] for offset in poison]
    assert {letter.code for letter in publisher.dead_letters} == {"internal_error"}


def test_the_reason_of_a_message_set_aside_holds_nothing_of_the_shopper() -> None:
    publisher = MemoryPublisher()
    asyncio.run(_agent(Handler(_poison(0)), publisher)._finish(_messages(1)))
    assert publisher.dead_letters[0].reason == "the handler failed; see the worker's log"


def test_a_batch_is_tried_again_until_what_it_needs_is_there() -> None:
    left = [StateUnavailable("away")] * 5

    def fail(_: Sequence[RawMessage]) -> Exception | None:
        return left.pop() if left else None

    handler, publisher = Handler(fail), MemoryPublisher()
    agent = _agent(handler, publisher)
    asyncio.run(agent._finish(_messages(2)))
    assert handler.batches == [[0, 1]] * 6
    assert publisher.dead_letters == []
    assert agent.waiting_for == ""


def test_a_part_that_goes_away_while_a_poison_message_is_looked_for_is_waited_for() -> None:
    away = [StateUnavailable("away")] * 3

    def fail(messages: Sequence[RawMessage]) -> Exception | None:
        if len(messages) < 4 and away:
            return away.pop()
        return _poison(2)(messages)

    handler, publisher = Handler(fail), MemoryPublisher()
    asyncio.run(_agent(handler, publisher)._finish(_messages(4)))
    assert handler.done == [0, 1, 3]
    assert [letter.message.source.offset for letter in publisher.dead_letters] == [2]


def test_a_message_is_set_aside_only_when_the_broker_has_it() -> None:
    class Away(MemoryPublisher):
        left = 3

        async def publish_dead_letters(self, letters: Any) -> None:
            if self.left:
                self.left -= 1
                raise PublishUnavailable("away")
            await super().publish_dead_letters(letters)

    publisher = Away()
    asyncio.run(_agent(Handler(_poison(0)), publisher)._finish(_messages(1)))
    assert publisher.left == 0
    assert len(publisher.dead_letters) == 1


def test_an_agent_says_what_it_waits_for() -> None:
    async def scenario() -> str:
        agent = _agent(Handler(lambda _: StateUnavailable("Redis is away")))
        work = asyncio.ensure_future(agent._finish(_messages(1)))
        await _until(lambda: bool(agent.waiting_for))
        work.cancel()
        return agent.waiting_for

    assert asyncio.run(scenario()) == "Redis is away"


def test_pauses_grow_to_a_cap_and_are_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(agents, "LONGEST_PAUSE_S", 2.0)
    pauses: list[float] = []

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)

    monkeypatch.setattr(agents.asyncio, "sleep", sleep)
    left: list[Unavailable] = [StateUnavailable("away")] * 12
    handler = Handler(lambda _: left.pop() if left else None)
    asyncio.run(_agent(handler)._finish(_messages(1)))
    for number, pause_s in enumerate(pauses):
        longest_s = min(0.05 * 2**number, 2.0)
        assert longest_s / 2 <= pause_s <= longest_s
    assert len(set(pauses)) == len(pauses) == 12


class FakeStream:
    """What an agent sees of a Faust stream."""

    def __init__(self, messages: Sequence[RawMessage]) -> None:
        self.enable_acks = True
        self.acked: list[int] = []
        self.released = asyncio.Event()
        self._messages = messages
        self.ack_error: Exception | None = None

    async def events(self) -> Any:
        for message in self._messages:
            source = message.source
            yield SimpleNamespace(
                message=SimpleNamespace(
                    topic=source.topic,
                    partition=source.partition,
                    offset=source.offset,
                    timestamp=source.timestamp_ms / 1000,
                    key=message.key,
                    value=message.value,
                )
            )
        await self.released.wait()

    async def ack(self, event: Any) -> None:
        if self.ack_error:
            raise self.ack_error
        self.acked.append(event.message.offset)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def test_messages_are_acknowledged_in_order_and_only_when_their_batch_is_done() -> None:
    async def scenario() -> None:
        stream = FakeStream(_messages(20))
        gate = asyncio.Event()

        async def handle(messages: Sequence[RawMessage]) -> None:
            assert stream.acked == [m.source.offset for m in _messages(messages[0].source.offset)]
            await gate.wait()

        agent = BatchAgent("events", handle, MemoryPublisher(), Telemetry(), 8)
        consuming = asyncio.ensure_future(agent._consume(stream))  # type: ignore[arg-type]
        for _ in range(50):
            await asyncio.sleep(0)
        assert stream.acked == []
        assert stream.enable_acks is False
        gate.set()
        await _until(lambda: len(stream.acked) == 20)
        assert stream.acked == list(range(20))
        stream.released.set()
        await consuming

    asyncio.run(scenario())


def test_all_that_waits_is_one_batch_up_to_the_bound() -> None:
    async def scenario() -> list[list[int]]:
        handler = Handler()
        stream = FakeStream(_messages(20))
        consuming = asyncio.ensure_future(_agent(handler)._consume(stream))  # type: ignore[arg-type]
        await _until(lambda: len(stream.acked) == 20)
        consuming.cancel()
        return handler.batches

    batches = asyncio.run(scenario())
    assert [offset for batch in batches for offset in batch] == list(range(20))
    assert max(map(len, batches)) == 8


def test_a_message_keeps_its_place_time_and_bytes() -> None:
    async def scenario() -> RawMessage:
        found: list[RawMessage] = []

        async def handle(messages: Sequence[RawMessage]) -> None:
            found.extend(messages)

        stream = FakeStream([raw_click(offset=7, partition=3, at_ms=1_790_000_000_123)])
        agent = BatchAgent("events", handle, MemoryPublisher(), Telemetry(), 8)
        consuming = asyncio.ensure_future(agent._consume(stream))  # type: ignore[arg-type]
        await _until(lambda: bool(found))
        consuming.cancel()
        return found[0]

    assert asyncio.run(scenario()) == raw_click(offset=7, partition=3, at_ms=1_790_000_000_123)


def test_an_agent_that_cannot_acknowledge_ends_and_does_not_hang() -> None:
    async def scenario() -> None:
        stream = FakeStream(_messages(100))
        stream.ack_error = RuntimeError("consumer is gone")
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.timeout(10):
                await _agent(Handler())._consume(stream)  # type: ignore[arg-type]
        assert raised.group_contains(RuntimeError, match="consumer is gone")

    asyncio.run(scenario())
