"""The cross-encoder in Triton's Python backend, for every version: a thin shell over its neighbours here."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb
from batching import BadPair, answer
from pair_scorer import PairScorer


class TritonPythonModel:
    """`LEFT` and `RIGHT` (UTF-8, [1] each) to `SCORE` ([1], 0..1)."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the weights of this version's folder."""
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["intra_op_threads"]["string_value"])
        device = parameters.get("device", {}).get("string_value", "cpu")
        if device == "cuda":
            device += f":{args['model_instance_device_id']}"
        self._scorer = PairScorer(Path(args["model_repository"]) / args["model_version"], threads, device)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request of the batch from one forward; a bad request fails alone."""
        live = [not request.is_cancelled() for request in requests]
        pairs = [
            (_texts(request, "LEFT"), _texts(request, "RIGHT"))
            for request in itertools.compress(requests, live)
        ]
        try:
            answers = iter(answer(pairs, self._scorer.score))
        except Exception as error:  # one that escapes would fail the batch without a word of what happened
            return [_failure(f"scoring failed: {error}", pb.TritonError.INTERNAL) for _ in requests]
        return [
            _response(next(answers)) if wanted else _failure("cancelled", pb.TritonError.CANCELLED)
            for wanted in live
        ]


def _texts(request: Any, name: str) -> Any:
    return pb.get_input_tensor_by_name(request, name).as_numpy()


def _response(result: Any) -> Any:
    if isinstance(result, BadPair):
        return _failure(str(result), pb.TritonError.INVALID_ARG)
    return pb.InferenceResponse([pb.Tensor("SCORE", result)])


def _failure(message: str, code: int) -> Any:
    return pb.InferenceResponse(error=pb.TritonError(message, code))
