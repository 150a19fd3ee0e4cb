"""The reranker as Triton serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from model_statistics import Served, served, served_once
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stream.core.ranking import FEATURES
from stream.local.stack import Stack
from stream.models.loading import load_reranker
from stream.models.repository import DEFAULT, versions

pytestmark = pytest.mark.servers

TIMEOUT_S = 300.0


class Reranker:
    """The model `reranker`, asked as any client of Triton would."""

    def __init__(self, client: InferenceServerClient) -> None:
        self._client = client

    async def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        tensor = InferInput("FEATURES", list(features.shape), "FP32")
        tensor.set_data_from_numpy(features)
        result = await self._client.infer("reranker", [tensor], client_timeout=TIMEOUT_S)
        scores: NDArray[np.float32] = result.as_numpy("SCORES")
        return scores

    async def names(self) -> tuple[str, ...]:
        tensor = InferInput("FEATURES", [1, 1, 1], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 1, 1), np.float32))
        wanted = [InferRequestedOutput("NAMES")]
        result = await self._client.infer("reranker", [tensor], outputs=wanted, client_timeout=TIMEOUT_S)
        return tuple(name.decode() for name in result.as_numpy("NAMES")[0])

    async def served(self) -> Served:
        return await served(self._client, "reranker")

    async def served_once(self, condition: Callable[[Served], bool]) -> Served:
        return await served_once(self._client, "reranker", condition)


@pytest.fixture
def on_reranker(stack: Stack) -> Callable[[Callable[[Reranker], Awaitable[None]]], None]:
    """Run a coroutine with the reranker of the running stack."""

    def run(body: Callable[[Reranker], Awaitable[None]]) -> None:
        async def connected() -> None:
            async with InferenceServerClient(stack.endpoints.triton_grpc) as client:
                await body(Reranker(client))

        asyncio.run(connected())

    return run


def features(candidates: int, lists: int = 1) -> NDArray[np.float32]:
    random = np.random.default_rng(candidates)
    return random.standard_normal((lists, candidates, len(FEATURES))).astype(np.float32)


def test_scores_are_those_of_the_network(on_reranker) -> None:
    network = load_reranker(DEFAULT / "reranker" / versions(DEFAULT, "reranker")[-1])

    async def body(reranker: Reranker) -> None:
        rows = features(180)
        scores = await reranker.score(rows)
        assert scores.shape == (1, 180)
        np.testing.assert_allclose(scores[0], network.score(rows[0]), rtol=1e-4, atol=1e-4)

    on_reranker(body)


def test_lists_of_any_length_share_a_forward(on_reranker) -> None:
    async def body(reranker: Reranker) -> None:
        before = await reranker.served()
        answers = await asyncio.gather(*(reranker.score(features(50 + place)) for place in range(48)))
        assert [answer.shape[1] for answer in answers] == [50 + place for place in range(48)]
        after = await reranker.served_once(lambda counts: counts.rows >= before.rows + 48)
        assert after.forwards - before.forwards < 48

    on_reranker(body)


def test_several_lists_of_one_length_may_come_in_one_request(on_reranker) -> None:
    async def body(reranker: Reranker) -> None:
        rows = features(40, lists=3)
        scores = await reranker.score(rows)
        assert scores.shape == (3, 40)
        np.testing.assert_allclose(scores[1], (await reranker.score(rows[1:2]))[0], rtol=1e-4, atol=1e-4)

    on_reranker(body)


def test_a_list_with_a_number_that_is_none_fails_alone(on_reranker) -> None:
    broken = features(10)
    broken[0, 4, 1] = np.nan

    async def body(reranker: Reranker) -> None:
        asked = [reranker.score(broken if place == 7 else features(20 + place)) for place in range(16)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for place, answer in enumerate(answers):
            if place == 7:
                assert isinstance(answer, InferenceServerException)
                assert "FEATURES[4, 1] is not a finite number" in str(answer)
            else:
                assert isinstance(answer, np.ndarray)
                assert np.isfinite(answer).all()

    on_reranker(body)


def test_a_version_names_the_features_it_reads(on_reranker) -> None:
    async def body(reranker: Reranker) -> None:
        assert await reranker.names() == FEATURES

    on_reranker(body)


def test_a_list_of_another_width_is_refused(on_reranker) -> None:
    async def body(reranker: Reranker) -> None:
        with pytest.raises(InferenceServerException, match="shape"):
            await reranker.score(np.zeros((1, 4, len(FEATURES) + 1), np.float32))

    on_reranker(body)
