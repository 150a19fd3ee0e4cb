"""What every reranker promises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from stream.adapters import triton_servers
from stream.adapters.circuit_breaker import CircuitBreaker
from stream.adapters.triton_models import TritonReranker
from stream.config import Triton
from stream.core.items import FloatArray
from stream.core.ranking import FEATURES
from stream.errors import ModelUnavailable
from stream.fakes import FirstFeatureReranker
from stream.ports import Reranker

Run = Callable[[Callable[..., Awaitable[None]]], None]
FAKE_AND_REAL = ["fake", pytest.param("real", marks=pytest.mark.servers)]
TIMEOUT_S = 120.0  # the machine that runs all servers and the tests at once may be slow


@asynccontextmanager
async def _triton(url: str, now_s: Callable[[], float] = time.monotonic) -> AsyncIterator[TritonReranker]:
    client = triton_servers.connect(Triton(url=url))
    try:
        yield TritonReranker(client, new_breaker=lambda: CircuitBreaker(now_s))
    finally:
        await client.close()


@pytest.fixture(params=FAKE_AND_REAL)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a test's body on a reranker."""

    async def on_fake(body: Callable[[Reranker], Awaitable[None]]) -> None:
        await body(FirstFeatureReranker())

    async def on_triton(body: Callable[[Reranker], Awaitable[None]]) -> None:
        async with _triton(request.getfixturevalue("stack").endpoints.triton_grpc) as reranker:
            await body(reranker)

    if request.param == "fake":
        return lambda body: asyncio.run(on_fake(body))
    request.getfixturevalue("stack")
    return lambda body: asyncio.run(on_triton(body))


def _features(count: int, seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((count, len(FEATURES))).astype(np.float32)


async def _scored(reranker: Reranker, features: FloatArray) -> FloatArray:
    """Scores, asked for again where the server had too much to do."""
    async with asyncio.timeout(240):
        while True:
            try:
                return (await reranker.score(features, TIMEOUT_S))[0]
            except ModelUnavailable as error:
                if error.reason not in ("overloaded", "circuit_open"):
                    raise
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("count", [1, 2, 7, 100, 400])
def test_every_candidate_has_a_score(run: Run, count: int) -> None:
    async def body(reranker: Reranker) -> None:
        scores = await _scored(reranker, _features(count))
        assert scores.shape == (count,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()

    run(body)


def test_scores_come_with_the_version_of_the_model(run: Run) -> None:
    async def body(reranker: Reranker) -> None:
        await _scored(reranker, _features(3))
        _, version = await reranker.score(_features(3), TIMEOUT_S)
        assert version == "1"

    run(body)


def test_the_same_candidates_have_the_same_scores(run: Run) -> None:
    async def body(reranker: Reranker) -> None:
        first = await _scored(reranker, _features(50))
        again = await _scored(reranker, _features(50))
        np.testing.assert_allclose(first, again, rtol=1e-4, atol=1e-4)

    run(body)


def test_scores_belong_to_the_candidates_and_not_to_their_places(run: Run) -> None:
    async def body(reranker: Reranker) -> None:
        features = _features(30)
        forward = await _scored(reranker, features)
        backward = await _scored(reranker, np.ascontiguousarray(features[::-1]))
        np.testing.assert_allclose(forward, backward[::-1], rtol=1e-3, atol=1e-3)
        assert len(np.unique(forward)) > 1

    run(body)


def test_lists_of_different_lengths_at_the_same_time_get_their_own_scores(run: Run) -> None:
    async def body(reranker: Reranker) -> None:
        lists = [_features(count, seed=count) for count in (1, 3, 90, 17, 250, 2, 33, 64)]
        alone = [await _scored(reranker, features) for features in lists]
        together = await asyncio.gather(*(_scored(reranker, features) for features in lists))
        for expected, scores in zip(alone, together, strict=True):
            np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)

    run(body)


def test_lists_in_one_request_get_the_scores_that_they_get_alone(run: Run) -> None:
    async def body(reranker: Reranker) -> None:
        lists = [_features(count, seed=count) for count in (1, 90, 17, 250)]
        alone = [await _scored(reranker, features) for features in lists]
        together = await _scored(reranker, np.concatenate(lists))
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-3, atol=1e-3)

    run(body)


def test_a_fake_that_is_told_to_fail_fails() -> None:
    reranker = FirstFeatureReranker()
    reranker.failure = ModelUnavailable("reranker", "deadline", "late")
    with pytest.raises(ModelUnavailable):
        asyncio.run(reranker.score(_features(3), 1.0))


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_a_triton_that_is_away_is_noticed_and_then_left_alone(
    port: str, request: pytest.FixtureRequest, soon: Any
) -> None:
    url = f"127.0.0.1:{request.getfixturevalue(port)}"

    async def body() -> None:
        async with _triton(url, lambda: 0.0) as reranker:  # no time passes, so none is there for a probe
            seen = []
            for _ in range(4):
                with pytest.raises(ModelUnavailable) as raised:
                    await soon(reranker.score(_features(3), 0.1))
                seen.append(raised.value.reason)
            assert set(seen[:3]) <= {"deadline", "unreachable"}
            assert seen[3] == "circuit_open"

    asyncio.run(body())


@pytest.mark.servers
def test_features_the_model_does_not_know_are_refused_and_do_not_open_the_circuit(stack: Any) -> None:
    async def body() -> None:
        async with _triton(stack.endpoints.triton_grpc) as reranker:
            for _ in range(5):
                with pytest.raises(ModelUnavailable) as raised:
                    await reranker.score(np.zeros((3, 5), np.float32), TIMEOUT_S)
                assert raised.value.reason == "refused"
            assert (await _scored(reranker, _features(3))).shape == (3,)

    asyncio.run(body())


@pytest.mark.parametrize(
    "answer",
    [np.ones((1, 4), np.float32), np.full((1, 3), np.nan, np.float32), np.full((1, 3), np.inf, np.float32)],
    ids=["too many", "not numbers", "infinite"],
)
def test_an_answer_that_is_no_score_for_each_is_an_error(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with _triton("127.0.0.1:1") as reranker:

            async def infer(_: Any, output: str, *__: Any) -> tuple[Any, str]:
                names = np.array([[name.encode() for name in FEATURES]], np.object_)
                return names if output == "NAMES" else answer, "1"

            monkeypatch.setattr(reranker.model, "infer", infer)
            with pytest.raises(ModelUnavailable) as raised:
                await reranker.score(_features(3), TIMEOUT_S)
            assert raised.value.reason == "error"

    asyncio.run(body())
