"""The encoder as Triton serves it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from model_statistics import Served, served, served_once
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stream.local.stack import Stack

pytestmark = pytest.mark.servers

TIMEOUT_S = 300.0


class Encoder:
    """The model `encoder`, asked as any client of Triton would."""

    def __init__(self, client: InferenceServerClient) -> None:
        self._client = client

    async def encode(self, *texts: str | bytes) -> NDArray[np.float32]:
        tensor = InferInput("TEXT", [len(texts), 1], "BYTES")
        values = [[text.encode() if isinstance(text, str) else text] for text in texts]
        tensor.set_data_from_numpy(np.array(values, dtype=np.object_))
        result = await self._client.infer("encoder", [tensor], client_timeout=TIMEOUT_S)
        vectors: NDArray[np.float32] = result.as_numpy("EMBEDDING")
        return vectors

    async def served(self) -> Served:
        return await served(self._client, "encoder")

    async def served_once(self, condition: Callable[[Served], bool]) -> Served:
        return await served_once(self._client, "encoder", condition)


@pytest.fixture
def on_encoder(stack: Stack) -> Callable[[Callable[[Encoder], Awaitable[None]]], None]:
    """Run a coroutine with the encoder of the running stack."""

    def run(body: Callable[[Encoder], Awaitable[None]]) -> None:
        async def connected() -> None:
            async with InferenceServerClient(stack.endpoints.triton_grpc) as client:
                await body(Encoder(client))

        asyncio.run(connected())

    return run


def fresh(text: str = "wireless mouse") -> str:
    """A text that no cache has seen."""
    return f"{text} {uuid.uuid4().hex[:8]}"


def test_vectors_have_length_one_and_say_what_texts_mean(on_encoder: Any) -> None:
    async def body(encoder: Encoder) -> None:
        vectors = await encoder.encode("laptop bag", "notebook computer case", "banana bread recipe")
        assert vectors.shape == (3, 384)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2

    on_encoder(body)


def test_a_text_means_the_same_alone_and_among_others(on_encoder: Any) -> None:
    async def body(encoder: Encoder) -> None:
        query, product = fresh("red lamp"), fresh("a long text about many things " * 20)
        alone = await encoder.encode(query)
        together = await encoder.encode(product, *(fresh("usb hub") for _ in range(20)), query)
        assert float(alone[0] @ together[-1]) > 0.95

    on_encoder(body)


def test_requests_that_wait_are_encoded_together(on_encoder: Any) -> None:
    async def body(encoder: Encoder) -> None:
        before = await encoder.served()
        await asyncio.gather(*(encoder.encode(fresh()) for _ in range(64)))
        after = await encoder.served_once(lambda counts: counts.rows >= before.rows + 64)
        assert after.forwards - before.forwards <= 32

    on_encoder(body)


def test_a_repeated_query_is_answered_from_the_cache(on_encoder: Any) -> None:
    async def body(encoder: Encoder) -> None:
        query = fresh()
        first = await encoder.encode(query)
        before = await encoder.served()
        again = await encoder.encode(query)
        await encoder.served_once(lambda counts: counts.cache_hits == before.cache_hits + 1)
        np.testing.assert_array_equal(first, again)

    on_encoder(body)


def test_a_bad_request_among_good_ones_fails_alone(on_encoder: Any) -> None:
    async def body(encoder: Encoder) -> None:
        odd = [(fresh(),), (b"\xff\xfe",), ("",), ("x" * 100_000,), ("word " * 20_000,), ("🎧" * 99, fresh())]
        answers = await asyncio.gather(*(encoder.encode(*texts) for texts in odd), return_exceptions=True)
        refused = answers.pop(1)
        assert isinstance(refused, InferenceServerException)
        assert "INVALID_ARGUMENT" in str(refused.status())
        assert "TEXT[0] is not UTF-8" in str(refused)
        for answer in answers:
            assert isinstance(answer, np.ndarray)
            np.testing.assert_allclose(np.linalg.norm(answer, axis=1), 1.0, rtol=1e-5)

    on_encoder(body)


def test_more_texts_than_a_batch_holds_are_refused_with_the_limit(on_encoder: Any) -> None:
    async def body(encoder: Encoder) -> None:
        with pytest.raises(InferenceServerException, match="64"):
            await encoder.encode(*(fresh() for _ in range(65)))

    on_encoder(body)
