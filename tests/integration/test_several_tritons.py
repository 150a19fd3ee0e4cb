"""Several Tritons: who is asked, who is gone on without, and versions that reach all of them or none."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from secured_servers import running, wait_until_ready

from stream.adapters.circuit_breaker import CircuitBreaker
from stream.adapters.triton_models import TritonReranker
from stream.adapters.triton_repository import TritonRepository
from stream.adapters.triton_servers import connect
from stream.config import Triton
from stream.core.ranking import FEATURES
from stream.errors import ModelRefused, ModelUnavailable
from stream.local import ports, triton
from stream.local.fetching import Fetching
from stream.models.repository import DEFAULT

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]
PATIENCE_S = 120.0
LIST = np.zeros((12, len(FEATURES)), np.float32)


class One(NamedTuple):
    """A Triton with a repository of its own, which holds a reranker."""

    address: str
    models: Path
    process: subprocess.Popen[bytes]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[One, One]]:
    with ExitStack() as parts:
        begun = []
        for name in ("first", "second"):
            folder = tmp_path / name
            shutil.copytree(DEFAULT / "reranker", folder / "models" / "reranker")
            at = ports.choose(triton.PORTS)
            server = triton.fetch(folder / "models", Fetching()).server(folder / "triton", at, {})
            process = parts.enter_context(running(server, folder))
            begun.append((server, One(f"127.0.0.1:{at['triton-grpc']}", folder / "models", process), folder))
        for server, one, folder in begun:
            wait_until_ready(server, one.process, folder)
        first, second = (one for _, one, _ in begun)
        yield first, second


def test_calls_are_shared_and_go_on_without_one_that_dies(
    two: tuple[One, One], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = two

    async def body() -> None:
        servers = connect(Triton(url=f"{first.address}, {second.address}"))
        try:
            reranker = TritonReranker(servers, new_breaker=lambda: CircuitBreaker(lambda: 0.0))
            await asyncio.gather(*(reranker.score(LIST, PATIENCE_S) for _ in range(40)))
            for server in servers:
                told = await server.client.get_inference_statistics("reranker", client_timeout=PATIENCE_S)
                assert sum(one.inference_count for one in told.model_stats) >= 15
            second.process.kill()
            second.process.wait()
            for _ in range(20):  # more than open its circuit
                scores, _ = await reranker.score(LIST, PATIENCE_S)
                assert scores.shape == (len(LIST),)
            assert f"reranker at {second.address}: not asked for a while" in caplog.text
            first.process.kill()
            first.process.wait()
            with pytest.raises(ModelUnavailable) as raised:
                await reranker.score(LIST, PATIENCE_S)
            assert raised.value.reason == "unreachable"
            assert first.address in str(raised.value)
        finally:
            await servers.close()

    asyncio.run(body())


def test_a_version_is_ready_where_all_serve_it_and_is_refused_where_one_cannot(two: tuple[One, One]) -> None:
    first, second = two

    def copy(one: One) -> None:
        shutil.copytree(one.models / "reranker" / "1", one.models / "reranker" / "2")

    async def body() -> None:
        settings = Triton(url=f"{first.address},{second.address}")
        servers = connect(settings)
        try:
            repository = TritonRepository(servers, settings)
            assert await repository.ready("reranker") == ["1"]
            copy(first)
            with pytest.raises(ModelRefused, match=second.address):
                await repository.load("reranker", ["1", "2"])
            assert await repository.ready("reranker") == ["1"]
            assert second.address in (await repository.versions())["reranker"]["2"].reason
            copy(second)
            await repository.load("reranker", ["1", "2"])
            assert sorted(await repository.ready("reranker")) == ["1", "2"]
            inputs = [("FEATURES", "FP32", LIST[None])]
            answers = [await ask(inputs, "SCORES") for ask in repository.askers("reranker", "2")]
            np.testing.assert_array_equal(*answers)
            second.process.kill()
            second.process.wait()
            with pytest.raises(ModelUnavailable, match=second.address):
                await repository.ready("reranker")
        finally:
            await servers.close()

    asyncio.run(body())


def test_one_that_was_never_there_costs_no_answer(stack: Any) -> None:
    with_nobody = ports.choose(["nobody"])["nobody"]

    async def body() -> None:
        servers = connect(Triton(url=f"127.0.0.1:{with_nobody},{stack.endpoints.triton_grpc}"))
        now_s = 0.0
        try:
            reranker = TritonReranker(servers, new_breaker=lambda: CircuitBreaker(lambda: now_s))
            for _ in range(20):
                assert (await reranker.score(LIST, PATIENCE_S))[0].shape == (len(LIST),)
                now_s += 1.0  # so that it is probed again and again
        finally:
            await servers.close()

    asyncio.run(body())
