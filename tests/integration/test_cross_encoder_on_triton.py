"""The cross-encoder as Triton serves it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from model_factory.served import CROSS_ENCODER, load_cross_encoder
from model_statistics import Served, served, served_once
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stream.local.stack import Stack

pytestmark = pytest.mark.servers

TIMEOUT_S = 300.0

Pair = tuple[str | bytes, str | bytes]


class CrossEncoder:
    """The model `cross_encoder`, asked as any client of Triton would."""

    def __init__(self, client: InferenceServerClient) -> None:
        self._client = client

    async def score(self, *pairs: Pair) -> NDArray[np.float32]:
        inputs = []
        for name, texts in zip(("LEFT", "RIGHT"), zip(*pairs, strict=True), strict=True):
            tensor = InferInput(name, [len(pairs), 1], "BYTES")
            values = [[text.encode() if isinstance(text, str) else text] for text in texts]
            tensor.set_data_from_numpy(np.array(values, dtype=np.object_))
            inputs.append(tensor)
        result = await self._client.infer("cross_encoder", inputs, client_timeout=TIMEOUT_S)
        scores: NDArray[np.float32] = result.as_numpy("SCORE")
        return scores

    async def served(self) -> Served:
        return await served(self._client, "cross_encoder")

    async def served_once(self, condition: Callable[[Served], bool]) -> Served:
        return await served_once(self._client, "cross_encoder", condition)


@pytest.fixture
def on_cross_encoder(stack: Stack) -> Callable[[Callable[[CrossEncoder], Awaitable[None]]], None]:
    """Run a coroutine with the cross-encoder of the running stack."""

    def run(body: Callable[[CrossEncoder], Awaitable[None]]) -> None:
        async def connected() -> None:
            async with InferenceServerClient(stack.endpoints.triton_grpc) as client:
                await body(CrossEncoder(client))

        asyncio.run(connected())

    return run


def fresh(text: str = "red mug") -> str:
    """A text that no cache has seen."""
    return f"{text} {uuid.uuid4().hex[:8]}"


LONG = "a long text about many things " * 20


def test_scores_are_those_of_the_code_that_is_evaluated(on_cross_encoder: Any) -> None:
    pairs = [("red mug", fresh("a mug in red")), ("red mug", fresh(LONG)), (fresh(LONG), "")]
    expected = load_cross_encoder(CROSS_ENCODER).score(pairs)

    async def body(cross_encoder: CrossEncoder) -> None:
        scores = await cross_encoder.score(*pairs)
        assert scores.shape == (3, 1)
        np.testing.assert_allclose(scores[:, 0], expected, atol=1e-4)

    on_cross_encoder(body)


def test_requests_of_any_number_and_length_that_wait_are_one_forward(on_cross_encoder: Any) -> None:
    async def body(cross_encoder: CrossEncoder) -> None:
        asked = [
            [("red mug", fresh(LONG[: 40 * place])) for _ in range(1 + place % 5)] for place in range(20)
        ]
        before = await cross_encoder.served()
        answers = await asyncio.gather(*(cross_encoder.score(*one) for one in asked))
        assert [len(answer) for answer in answers] == [len(one) for one in asked]
        after = await cross_encoder.served_once(
            lambda counts: counts.rows >= before.rows + sum(map(len, asked))
        )
        assert after.forwards - before.forwards < 20

    on_cross_encoder(body)


@pytest.mark.parametrize(("place", "name"), [(0, "LEFT"), (1, "RIGHT")])
def test_a_bad_request_among_good_ones_fails_alone(on_cross_encoder: Any, place: int, name: str) -> None:
    async def body(cross_encoder: CrossEncoder) -> None:
        bad: list[str | bytes] = ["red mug", fresh()]
        bad[place] = b"\xff\xfe"
        good = [("", ""), (fresh(), "x" * 100_000), (fresh("word " * 20_000), "mug"), ("🎧" * 99, fresh())]
        answers = await asyncio.gather(
            cross_encoder.score(("a", fresh()), (bad[0], bad[1])),
            *(cross_encoder.score(pair) for pair in good),
            return_exceptions=True,
        )
        refused = answers.pop(0)
        assert isinstance(refused, InferenceServerException)
        assert "INVALID_ARGUMENT" in str(refused.status())
        assert f"{name}[1] is not UTF-8" in str(refused)
        for answer in answers:
            assert isinstance(answer, np.ndarray)
            assert 0.0 <= float(answer[0, 0]) <= 1.0

    on_cross_encoder(body)


def test_more_pairs_than_a_batch_holds_are_refused_with_the_limit(on_cross_encoder: Any) -> None:
    async def body(cross_encoder: CrossEncoder) -> None:
        with pytest.raises(InferenceServerException, match="64"):
            await cross_encoder.score(*(("red mug", fresh()) for _ in range(65)))

    on_cross_encoder(body)
