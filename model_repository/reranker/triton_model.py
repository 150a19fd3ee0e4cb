"""The reranker in Triton's Python backend, all versions alike: a thin shell over `network.py`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb
from batching import BadFeatures, answer
from network import Network


class TritonPythonModel:
    """`FEATURES` ([candidates, features]) to `SCORES` ([candidates])."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the weights of this version's folder."""
        features = json.loads(args["model_config"])["parameters"]["features"]["string_value"]
        version = Path(args["model_repository"], args["model_version"])
        self._network = Network.load(version / "weights.npz")
        self._width = len(features.split(","))
        if self._width != len(self._network.centre):
            raise ValueError(
                f"config.pbtxt names {self._width} features, weights.npz has {len(self._network.centre)}"
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request of the batch from one forward; a bad request fails alone."""
        live = [not request.is_cancelled() for request in requests]
        lists = [
            pb.get_input_tensor_by_name(request, "FEATURES").as_numpy()
            for request in itertools.compress(requests, live)
        ]
        try:
            answers = iter(answer(lists, self._width, self._network.score))
        except Exception as error:  # one that escapes would fail the batch without a word of what happened
            return [_failure(f"scoring failed: {error}", pb.TritonError.INTERNAL) for _ in requests]
        return [
            _response(next(answers)) if wanted else _failure("cancelled", pb.TritonError.CANCELLED)
            for wanted in live
        ]


def _response(result: Any) -> Any:
    if isinstance(result, BadFeatures):
        return _failure(str(result), pb.TritonError.INVALID_ARG)
    return pb.InferenceResponse([pb.Tensor("SCORES", result)])


def _failure(message: str, code: int) -> Any:
    return pb.InferenceResponse(error=pb.TritonError(message, code))
