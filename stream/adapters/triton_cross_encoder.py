"""The cross-encoder on NVIDIA Triton, where pairs that are in flight together share a forward."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from tritonclient.grpc import InferInput

from stream.adapters.triton_models import NewBreaker, TritonModel, Version, newest
from stream.adapters.triton_servers import Servers
from stream.core.items import FloatArray
from stream.errors import ModelUnavailable

BATCH = 64
"""The `max_batch_size` of the model."""


class TritonCrossEncoder:
    """`CrossEncoder` on the model from `LEFT` and `RIGHT` (bytes, [1] each) to `SCORE` ([1])."""

    def __init__(
        self,
        servers: Servers,
        name: str = "cross_encoder",
        new_breaker: NewBreaker | None = None,
        version: Version = newest,
    ) -> None:
        self.model = TritonModel(servers, name, new_breaker, version)

    async def score(self, pairs: Sequence[tuple[str, str]], timeout_s: float) -> tuple[FloatArray, str]:
        """Score pairs, in requests of up to 64, one after another; see `stream.ports.CrossEncoder`."""
        if not pairs:
            return np.zeros(0, np.float32), ""
        until_s = time.monotonic() + timeout_s
        answers = [
            await self._score_part(pairs[i : i + BATCH], max(0.001, until_s - time.monotonic()))
            for i in range(0, len(pairs), BATCH)
        ]
        versions = {version for _, version in answers}
        if len(versions) > 1:
            raise ModelUnavailable(
                self.model.name, "version_changed", f"{self.model.name}: two versions answered one call"
            )
        return np.concatenate([scores for scores, _ in answers]), versions.pop()

    async def _score_part(self, pairs: Sequence[tuple[str, str]], timeout_s: float) -> tuple[FloatArray, str]:
        inputs = []
        for name, texts in zip(("LEFT", "RIGHT"), zip(*pairs, strict=True), strict=True):
            tensor = InferInput(name, [len(pairs), 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=np.object_))
            inputs.append(tensor)
        scores, version = await self.model.infer(inputs, "SCORE", timeout_s)
        return self.model.checked(scores, (len(pairs), 1))[:, 0], version
