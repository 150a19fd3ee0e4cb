"""What Triton says it has done for a model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from tritonclient.grpc.aio import InferenceServerClient

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Served:
    """Over all loaded versions: rows inferred, forwards they took, requests that the cache answered."""

    rows: int
    forwards: int
    cache_hits: int


async def served(client: InferenceServerClient, model: str) -> Served:
    answer = await client.get_inference_statistics(model, client_timeout=TIMEOUT_S)
    versions = answer.model_stats
    return Served(
        sum(one.inference_count for one in versions),
        sum(one.execution_count for one in versions),
        sum(one.inference_stats.cache_hit.count for one in versions),
    )


async def served_once(
    client: InferenceServerClient, model: str, condition: Callable[[Served], bool]
) -> Served:
    """Wait until the counts are so: Triton answers a batch first and counts it afterwards."""
    ends = time.monotonic() + TIMEOUT_S
    while not condition(counts := await served(client, model)):
        assert time.monotonic() < ends, f"{model}: {counts} after {TIMEOUT_S:.0f} s"
        await asyncio.sleep(0.01)
    return counts
