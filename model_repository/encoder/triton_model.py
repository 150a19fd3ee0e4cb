"""The encoder in Triton's Python backend, all versions alike: a thin shell over `text_encoder.py`."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb
from batching import BadText, answer
from text_encoder import TextEncoder


class TritonPythonModel:
    """`TEXT` (UTF-8, [1]) to `EMBEDDING` ([384], length 1)."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the weights of this version's folder."""
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["intra_op_threads"]["string_value"])
        device = parameters.get("device", {}).get("string_value", "cpu")
        if device == "cuda":
            device += f":{args['model_instance_device_id']}"
        self._encoder = TextEncoder(Path(args["model_repository"], args["model_version"]), threads, device)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request of the batch from one forward; a bad request fails alone."""
        live = [not request.is_cancelled() for request in requests]
        texts = [
            pb.get_input_tensor_by_name(request, "TEXT").as_numpy()
            for request in itertools.compress(requests, live)
        ]
        try:
            answers = iter(answer(texts, self._encoder.encode))
        except Exception as error:  # one that escapes would fail the batch without a word of what happened
            return [_failure(f"encoding failed: {error}", pb.TritonError.INTERNAL) for _ in requests]
        return [
            _response(next(answers)) if wanted else _failure("cancelled", pb.TritonError.CANCELLED)
            for wanted in live
        ]


def _response(result: Any) -> Any:
    if isinstance(result, BadText):
        return _failure(str(result), pb.TritonError.INVALID_ARG)
    return pb.InferenceResponse([pb.Tensor("EMBEDDING", result)])


def _failure(message: str, code: int) -> Any:
    return pb.InferenceResponse(error=pb.TritonError(message, code))
