"""What every encoder promises."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from stream.adapters import triton_servers
from stream.adapters.circuit_breaker import CircuitBreaker
from stream.adapters.triton_models import ENCODER_BATCH, TritonEncoder
from stream.config import Triton
from stream.core.items import DIMENSIONS
from stream.errors import ModelUnavailable
from stream.fakes import HashEncoder
from stream.ports import Encoder

Run = Callable[[Callable[..., Awaitable[None]]], None]
FAKE_AND_REAL = ["fake", pytest.param("real", marks=pytest.mark.servers)]
TIMEOUT_S = 120.0  # the machine that runs all servers and the tests at once may be slow


@asynccontextmanager
async def _triton(url: str, now_s: Callable[[], float] = time.monotonic) -> AsyncIterator[TritonEncoder]:
    client = triton_servers.connect(Triton(url=url))
    try:
        yield TritonEncoder(client, new_breaker=lambda: CircuitBreaker(now_s))
    finally:
        await client.close()


@pytest.fixture(params=FAKE_AND_REAL)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's body on an encoder."""

    async def on_fake(body: Callable[[Encoder], Awaitable[None]]) -> None:
        await body(HashEncoder())

    async def on_triton(body: Callable[[Encoder], Awaitable[None]]) -> None:
        async with _triton(request.getfixturevalue("stack").endpoints.triton_grpc) as encoder:
            await body(encoder)

    if request.param == "fake":
        return lambda body: asyncio.run(on_fake(body))
    request.getfixturevalue("stack")
    return lambda body: asyncio.run(on_triton(body))


def test_texts_become_vectors_of_length_one(run: Run) -> None:
    async def body(encoder: Encoder) -> None:
        vectors, version = await encoder.encode(["red mug", "blue cup", "desk lamp"], TIMEOUT_S)
        assert vectors.shape == (3, DIMENSIONS)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-4)
        assert version

    run(body)


@pytest.mark.parametrize("count", [1, ENCODER_BATCH, ENCODER_BATCH + 1, 150])
def test_every_text_has_its_own_vector_in_the_order_of_the_texts(run: Run, count: int) -> None:
    async def body(encoder: Encoder) -> None:
        words = ["mug", "cup", "lamp", "kettle", "clock", "frame", "cushion", "lantern"]
        texts = [f"{words[n % 8]} {words[n // 8 % 8]} {n}" for n in range(count)]
        forward, _ = await encoder.encode(texts, TIMEOUT_S)
        backward, _ = await encoder.encode(texts[::-1], TIMEOUT_S)
        assert forward.shape == (count, DIMENSIONS)
        own = (forward * backward[::-1]).sum(axis=1)
        assert own.min() > 0.95  # int8 activations are scaled by what shares their batch
        if count > 1:
            assert (forward[:-1] * backward[::-1][1:]).sum(axis=1).mean() < own.mean()

    run(body)


def test_no_texts_no_vectors(run: Run) -> None:
    async def body(encoder: Encoder) -> None:
        vectors, _ = await encoder.encode([], TIMEOUT_S)
        assert vectors.shape == (0, DIMENSIONS)

    run(body)


@pytest.mark.parametrize(
    "text", ["ティーカップ", "🛒", "a\nb\tc", "x" * 5_000, "word " * 2_000, "\x00", "é"], ids=ascii
)
def test_any_text_will_do(run: Run, text: str) -> None:
    async def body(encoder: Encoder) -> None:
        vectors, _ = await encoder.encode([text, "red mug"], TIMEOUT_S)
        assert np.isfinite(vectors).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-4)

    run(body)


def test_texts_that_share_words_are_nearer_than_texts_that_do_not(run: Run) -> None:
    async def body(encoder: Encoder) -> None:
        (mug, same, other), _ = await encoder.encode(
            ["red coffee mug", "blue coffee mug", "wooden garden chair"], TIMEOUT_S
        )
        assert mug @ same > mug @ other + 0.1

    run(body)


def test_calls_at_the_same_time_get_their_own_answers(run: Run) -> None:
    async def body(encoder: Encoder) -> None:
        texts = [f"{uuid.uuid4().hex[:6]} {n}" for n in range(30)]
        alone = [(await encoder.encode([text], TIMEOUT_S))[0][0] for text in texts]
        together = await asyncio.gather(*(encoder.encode([text], TIMEOUT_S) for text in texts))
        for vector, (again, _) in zip(alone, together, strict=True):
            assert vector @ again[0] > 0.95

    run(body)


def test_a_fake_that_is_told_to_fail_fails() -> None:
    encoder = HashEncoder()
    encoder.failure = ModelUnavailable("encoder", "deadline", "late")
    with pytest.raises(ModelUnavailable):
        asyncio.run(encoder.encode(["red mug"], 1.0))


@pytest.mark.parametrize(
    ("port", "reasons"),
    [("closed_port", {"unreachable", "deadline"}), ("silent_port", {"deadline", "unreachable"})],
)
def test_a_triton_that_is_away_is_noticed_and_then_left_alone(
    port: str, reasons: set[str], request: pytest.FixtureRequest, soon: Any
) -> None:
    url = f"127.0.0.1:{request.getfixturevalue(port)}"

    async def body() -> None:
        async with _triton(url, lambda: 0.0) as encoder:  # no time passes, so none is there for a probe
            seen = []
            for _ in range(4):
                with pytest.raises(ModelUnavailable) as raised:
                    await soon(encoder.encode(["red mug"], 0.1))
                assert raised.value.model == "encoder"
                seen.append(raised.value.reason)
            assert set(seen[:3]) <= reasons
            assert seen[3] == "circuit_open"

    asyncio.run(body())


@pytest.mark.servers
def test_an_answer_that_comes_too_late_is_not_waited_for_and_recovery_is_by_itself(
    stack: Any, soon: Any, revive: Any
) -> None:
    now_s = 0.0

    async def body() -> None:
        async with _triton(stack.endpoints.triton_grpc, lambda: now_s) as encoder:
            await encoder.encode(["red mug"], TIMEOUT_S)
            stack.pause("triton")
            try:
                for _ in range(3):
                    with pytest.raises(ModelUnavailable) as raised:
                        await soon(encoder.encode([uuid.uuid4().hex], 0.1))
                    assert raised.value.reason == "deadline"
                with pytest.raises(ModelUnavailable) as raised:
                    await soon(encoder.encode(["red mug"], 0.1))
                assert raised.value.reason == "circuit_open"
            finally:
                stack.resume("triton")
            vectors, _ = await soon(_until_answered(encoder))
            assert vectors.shape == (1, DIMENSIONS)

    async def _until_answered(encoder: TritonEncoder) -> Any:
        nonlocal now_s
        while True:
            try:
                return await encoder.encode(["red mug"], TIMEOUT_S)
            except ModelUnavailable:
                now_s += 1.0
                revive()
                await asyncio.sleep(0.05)

    asyncio.run(body())


@pytest.mark.servers
def test_a_model_that_does_not_exist_is_an_error(stack: Any) -> None:
    async def body() -> None:
        client = triton_servers.connect(Triton(url=stack.endpoints.triton_grpc))
        try:
            with pytest.raises(ModelUnavailable) as raised:
                await TritonEncoder(client, "no-such-model").encode(["red mug"], TIMEOUT_S)
            assert raised.value.model == "no-such-model"
            assert raised.value.reason == "error"
        finally:
            await client.close()

    asyncio.run(body())


@pytest.mark.parametrize(
    "answer",
    [
        np.ones((1, 7), np.float32),
        np.full((1, DIMENSIONS), np.nan, np.float32),
        np.ones(DIMENSIONS, np.float32),
    ],
    ids=["too few numbers", "not numbers", "no batch"],
)
def test_an_answer_that_is_no_vector_is_an_error(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with _triton("127.0.0.1:1") as encoder:

            async def infer(*_: Any) -> tuple[Any, str]:
                return answer, "1"

            monkeypatch.setattr(encoder.model, "infer", infer)
            with pytest.raises(ModelUnavailable) as raised:
                await encoder.encode(["red mug"], TIMEOUT_S)
            assert raised.value.reason == "error"

    asyncio.run(body())
