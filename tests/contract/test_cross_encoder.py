"""What every cross-encoder promises."""

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
from stream.adapters.triton_cross_encoder import BATCH, TritonCrossEncoder
from stream.config import Triton
from stream.errors import ModelUnavailable
from stream.fakes import SharedWordsCrossEncoder
from stream.ports import CrossEncoder

Run = Callable[[Callable[..., Awaitable[None]]], None]
FAKE_AND_REAL = ["fake", pytest.param("real", marks=pytest.mark.servers)]
TIMEOUT_S = 120.0  # the machine that runs all servers and the tests at once may be slow


@asynccontextmanager
async def _triton(url: str, now_s: Callable[[], float] = time.monotonic) -> AsyncIterator[TritonCrossEncoder]:
    client = triton_servers.connect(Triton(url=url))
    try:
        yield TritonCrossEncoder(client, new_breaker=lambda: CircuitBreaker(now_s))
    finally:
        await client.close()


@pytest.fixture(params=FAKE_AND_REAL)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's body on a cross-encoder."""

    async def on_fake(body: Callable[[CrossEncoder], Awaitable[None]]) -> None:
        await body(SharedWordsCrossEncoder())

    async def on_triton(body: Callable[[CrossEncoder], Awaitable[None]]) -> None:
        async with _triton(request.getfixturevalue("stack").endpoints.triton_grpc) as cross_encoder:
            await body(cross_encoder)

    if request.param == "fake":
        return lambda body: asyncio.run(on_fake(body))
    request.getfixturevalue("stack")
    return lambda body: asyncio.run(on_triton(body))


@pytest.mark.parametrize("count", [1, 20, BATCH + 1])
def test_every_pair_has_a_score_between_zero_and_one(run: Run, count: int) -> None:
    async def body(cross_encoder: CrossEncoder) -> None:
        pairs = [("red mug", f"mug number {number} in red") for number in range(count)]
        scores, version = await cross_encoder.score(pairs, TIMEOUT_S)
        assert scores.shape == (count,)
        assert scores.dtype == np.float32
        assert (scores >= 0).all()
        assert (scores <= 1).all()
        assert version

    run(body)


def test_no_pairs_no_scores(run: Run) -> None:
    async def body(cross_encoder: CrossEncoder) -> None:
        scores, _ = await cross_encoder.score([], TIMEOUT_S)
        assert scores.shape == (0,)

    run(body)


def test_a_text_that_answers_scores_higher_than_one_that_does_not(run: Run) -> None:
    async def body(cross_encoder: CrossEncoder) -> None:
        pairs = [("coffee mug", "red coffee mug"), ("coffee mug", "wooden garden chair")]
        (mug, chair), _ = await cross_encoder.score(pairs, TIMEOUT_S)
        (chair_first, mug_second), _ = await cross_encoder.score(pairs[::-1], TIMEOUT_S)
        assert mug > chair
        assert mug_second > chair_first

    run(body)


@pytest.mark.parametrize(
    "text", ["", "ティーカップ", "🛒", "a\nb\tc", "x" * 5_000, "word " * 2_000, "\x00"], ids=ascii
)
def test_any_text_will_do(run: Run, text: str) -> None:
    async def body(cross_encoder: CrossEncoder) -> None:
        scores, _ = await cross_encoder.score([(text, "red mug"), ("red mug", text)], TIMEOUT_S)
        assert np.isfinite(scores).all()

    run(body)


def test_calls_at_the_same_time_get_their_own_answers(run: Run) -> None:
    async def body(cross_encoder: CrossEncoder) -> None:
        pairs = [("red mug", f"{uuid.uuid4().hex[:6]} {'mug' * (number % 2)}") for number in range(20)]
        alone = [float((await cross_encoder.score([pair], TIMEOUT_S))[0][0]) for pair in pairs]
        together = await asyncio.gather(*(cross_encoder.score([pair], TIMEOUT_S) for pair in pairs))
        # Activations in 8 bits are scaled by what shares their batch.
        np.testing.assert_allclose([float(scores[0]) for scores, _ in together], alone, atol=0.1)

    run(body)


@pytest.mark.parametrize("broken", ["failure", "hangs"])
def test_a_fake_that_is_told_to_fail_fails(broken: str) -> None:
    cross_encoder = SharedWordsCrossEncoder()
    setattr(cross_encoder, broken, ModelUnavailable("cross_encoder", "deadline", "late"))
    with pytest.raises(ModelUnavailable):
        asyncio.run(cross_encoder.score([("red mug", "red mug")], 0.001))


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_a_triton_that_is_away_is_noticed_and_then_left_alone(
    port: str, request: pytest.FixtureRequest, soon: Any
) -> None:
    url = f"127.0.0.1:{request.getfixturevalue(port)}"

    async def body() -> None:
        async with _triton(url, lambda: 0.0) as cross_encoder:  # no time passes, so none is there for a probe
            seen = []
            for _ in range(4):
                with pytest.raises(ModelUnavailable) as raised:
                    await soon(cross_encoder.score([("red mug", "red mug")], 0.1))
                assert raised.value.model == "cross_encoder"
                seen.append(raised.value.reason)
            assert set(seen[:3]) <= {"deadline", "unreachable"}
            assert seen[3] == "circuit_open"

    asyncio.run(body())


@pytest.mark.parametrize(
    "answer",
    [np.ones((2, 1), np.float32), np.ones(1, np.float32), np.full((1, 1), np.nan, np.float32)],
    ids=["too many", "no batch", "not a number"],
)
def test_an_answer_that_is_no_score_for_each_is_an_error(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with _triton("127.0.0.1:1") as cross_encoder:

            async def infer(*_: Any) -> tuple[Any, str]:
                return answer, "1"

            monkeypatch.setattr(cross_encoder.model, "infer", infer)
            with pytest.raises(ModelUnavailable) as raised:
                await cross_encoder.score([("red mug", "red mug")], TIMEOUT_S)
            assert raised.value.reason == "error"

    asyncio.run(body())


@pytest.mark.servers
@pytest.mark.parametrize(
    ("patience_s", "heard"),
    [pytest.param(0.3, "deadline", id="too impatient"), pytest.param(10.0, "error", id="patient")],
)
def test_a_model_whose_process_died_is_loaded_again_whether_or_not_triton_is_heard_out(
    stack: Any, kill_model: Any, patience_s: float, heard: str
) -> None:
    async def body() -> None:
        async with _triton(stack.endpoints.triton_grpc) as cross_encoder:
            await cross_encoder.score([("red mug", uuid.uuid4().hex)], TIMEOUT_S)
            assert kill_model("cross_encoder")
            reasons = []
            async with asyncio.timeout(600):
                while True:
                    try:
                        await cross_encoder.score([("red mug", uuid.uuid4().hex)], patience_s)
                        break
                    except ModelUnavailable as error:
                        reasons.append(error.reason)
                        await asyncio.sleep(0.05)
            assert reasons[0] == heard

    asyncio.run(body())
