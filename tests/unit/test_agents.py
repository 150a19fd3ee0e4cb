"""A batch is tried until it succeeds; a message that makes the handler fail is found and set aside."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from builders import raw_click

from stream import agents
from stream.agents import BatchAgent
from stream.core import signals
from stream.core.signals import UnreadableSignals
from stream.core.signals import decode as decode_signals
from stream.errors import ModelUnavailable, PublishUnavailable, StateUnavailable, Unavailable, place_of
from stream.fakes import MemoryPublisher
from stream.ports import RawMessage
from stream.telemetry.metrics import Telemetry


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
    assert {letter.code for letter in publisher.dead_letters} == {"internal"}


def test_the_reason_of_a_message_set_aside_is_the_kind_and_place_of_the_error_and_nothing_of_the_shopper(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crash(messages: Sequence[RawMessage]) -> None:
        decode_signals(messages[0].value or b"")

    publisher = MemoryPublisher()
    agent = BatchAgent("events", crash, publisher, Telemetry(), 8)
    asyncio.run(agent._finish([raw_click("ann", "mug", session_id="tel-12345")]))
    kind, _, rest = publisher.dead_letters[0].reason.partition(" at ")
    place, _, tries = rest.partition(", ")
    module, function, line = place.split(":")
    assert (kind, module, function, tries) == (
        "UnreadableSignals",
        "stream.core.signals",
        "decode",
        "3 times",
    )
    source = inspect.getsource(signals).splitlines()
    assert source[int(line) - 1].strip().startswith("raise UnreadableSignals")
    assert "tel-12345" not in caplog.text
    assert place in caplog.text


def test_a_message_is_tried_a_bounded_number_of_times_before_it_is_set_aside() -> None:
    handler, publisher = Handler(_poison(5)), MemoryPublisher()
    asyncio.run(_agent(handler, publisher)._finish(_messages(8)))
    alone = [batch for batch in handler.batches if batch == [5]]
    assert len(alone) == agents.TRIES
    assert len(handler.batches) == len(_halves_with(5, 8)) + agents.TRIES + 3  # and each good half once


def _halves_with(offset: int, count: int) -> list[range]:
    """The batches of more than one message that hold an offset, as halving goes down to it."""
    halves = [range(count)]
    while len(halves[-1]) > 2:
        middle = halves[-1].start + len(halves[-1]) // 2
        low, high = range(halves[-1].start, middle), range(middle, halves[-1].stop)
        halves.append(low if offset in low else high)
    return halves


def test_a_message_that_fails_once_by_chance_is_handled() -> None:
    failures = [ValueError("once")] * (agents.TRIES - 1)
    handler, publisher = Handler(lambda _: failures.pop() if failures else None), MemoryPublisher()
    asyncio.run(_agent(handler, publisher)._finish(_messages(1)))
    assert handler.done == [0]
    assert publisher.dead_letters == []


@pytest.mark.parametrize(
    "outage",
    [
        *(StateUnavailable("a"), PublishUnavailable("a"), ModelUnavailable("encoder", "deadline", "a")),
        *(ConnectionResetError("a"), TimeoutError(), BrokenPipeError()),
    ],
    ids=repr,
)
def test_an_outage_is_never_taken_for_a_fault_of_the_message(outage: Exception) -> None:
    left = [outage] * 20
    handler, publisher = Handler(lambda _: left.pop() if left else None), MemoryPublisher()
    agent = _agent(handler, publisher)
    asyncio.run(agent._finish(_messages(1)))
    assert handler.done == [0]
    assert len(handler.batches) == 21
    assert publisher.dead_letters == []
    assert agent.waiting_for == ""


def test_a_message_set_aside_keeps_its_headers() -> None:
    publisher = MemoryPublisher()
    message = _messages(1)[0]._replace(headers=(("trace", b"\xff"),))
    asyncio.run(_agent(Handler(_poison(0)), publisher)._finish([message]))
    assert publisher.dead_letters[0].message == message


def test_an_error_from_elsewhere_has_the_last_place_of_this_package() -> None:
    def inside() -> None:
        decode_signals(None)  # type: ignore[arg-type]

    with pytest.raises(UnreadableSignals) as raised:
        inside()
    assert place_of(raised.value).startswith("stream.core.signals:decode:")
    assert place_of(ValueError("never raised")) == "unknown"


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
                    headers=list(message.headers),
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


def test_a_batch_is_acknowledged_only_after_its_marks_are_moved() -> None:
    async def scenario() -> None:
        stream = FakeStream(_messages(8))
        away = [StateUnavailable("away")] * 3
        told: list[list[int]] = []

        async def saved(messages: Sequence[RawMessage]) -> None:
            assert stream.acked == []
            if away:
                raise away.pop()
            told.append([message.source.offset for message in messages])

        handler = Handler()
        agent = BatchAgent("events", handler, MemoryPublisher(), Telemetry(), 8, saved)
        consuming = asyncio.ensure_future(agent._consume(stream))  # type: ignore[arg-type]
        await _until(lambda: len(stream.acked) == 8)
        consuming.cancel()
        assert told == handler.batches == [list(range(8))]

    asyncio.run(scenario())


def test_what_was_passed_over_is_handled_with_the_batch_and_before_its_marks_move() -> None:
    async def scenario() -> None:
        stream = FakeStream(_messages(4)[2:])
        away = [StateUnavailable("away")] * 2
        told: list[list[int]] = []

        async def whole(messages: Sequence[RawMessage]) -> Sequence[RawMessage]:
            if away:
                raise away.pop()
            return [raw_click(offset=0), raw_click(offset=1), *messages]

        async def saved(messages: Sequence[RawMessage]) -> None:
            told.append([message.source.offset for message in messages])

        handler = Handler()
        agent = BatchAgent("events", handler, MemoryPublisher(), Telemetry(), 8, saved, whole=whole)
        consuming = asyncio.ensure_future(agent._consume(stream))  # type: ignore[arg-type]
        await _until(lambda: len(stream.acked) == 2)
        consuming.cancel()
        assert told == handler.batches == [[0, 1, 2, 3]]

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


def test_an_agent_that_has_time_waits_for_a_full_batch() -> None:
    class Dripping(FakeStream):
        """Gives one message only when all before it were taken."""

        async def events(self) -> Any:
            async for event in super().events():
                yield event
                for _ in range(20):
                    await asyncio.sleep(0)

    async def scenario() -> list[list[int]]:
        handler = Handler()
        stream = Dripping(_messages(16))
        agent = BatchAgent("signals", handler, MemoryPublisher(), Telemetry(), 8, gather_s=600)
        consuming = asyncio.ensure_future(agent._consume(stream))  # type: ignore[arg-type]
        await _until(lambda: len(stream.acked) == 16)
        consuming.cancel()
        return handler.batches

    assert asyncio.run(scenario()) == [list(range(8)), list(range(8, 16))]


def test_what_has_waited_long_enough_is_worked_on_though_the_batch_is_not_full() -> None:
    async def scenario() -> list[list[int]]:
        handler = Handler()
        stream = FakeStream(_messages(3))
        agent = BatchAgent("signals", handler, MemoryPublisher(), Telemetry(), 8, gather_s=0.001)
        consuming = asyncio.ensure_future(agent._consume(stream))  # type: ignore[arg-type]
        await _until(lambda: len(stream.acked) == 3)
        consuming.cancel()
        return handler.batches

    batches = asyncio.run(scenario())
    assert [offset for batch in batches for offset in batch] == [0, 1, 2]


def test_a_message_keeps_its_place_time_bytes_and_headers() -> None:
    sent = raw_click(offset=7, partition=3, at_ms=1_790_000_000_123)._replace(headers=(("a", b"1"),))

    async def scenario() -> RawMessage:
        found: list[RawMessage] = []

        async def handle(messages: Sequence[RawMessage]) -> None:
            found.extend(messages)

        stream = FakeStream([sent])
        agent = BatchAgent("events", handle, MemoryPublisher(), Telemetry(), 8)
        consuming = asyncio.ensure_future(agent._consume(stream))  # type: ignore[arg-type]
        await _until(lambda: bool(found))
        consuming.cancel()
        return found[0]

    assert asyncio.run(scenario()) == sent


def test_an_agent_that_cannot_acknowledge_ends_and_does_not_hang() -> None:
    async def scenario() -> None:
        stream = FakeStream(_messages(100))
        stream.ack_error = RuntimeError("consumer is gone")
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.timeout(10):
                await _agent(Handler())._consume(stream)  # type: ignore[arg-type]
        assert raised.group_contains(RuntimeError, match="consumer is gone")

    asyncio.run(scenario())
