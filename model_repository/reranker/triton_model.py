"""The reranker in Triton's Python backend, all versions alike: a thin shell over `network.py`."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products; more threads only wait for each other

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from batching import BadFeatures, answer
from network import Network

WARM_UP_CANDIDATES = 300


class TritonPythonModel:
    """`FEATURES` ([candidates, features]) to `SCORES` ([candidates]).

    Asked for `NAMES`, it names the features that this version reads, whatever `FEATURES` holds.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the weights of this version's folder; its first list costs no more than the next."""
        version = Path(args["model_repository"], args["model_version"])
        self._network = Network.load(version / "weights.npz")
        self._width = len(self._network.features)
        self._names = np.array([[name.encode() for name in self._network.features]], np.object_)
        self._network.score(np.zeros((WARM_UP_CANDIDATES, self._width), np.float32))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request of the batch from one forward; a bad request fails alone."""
        asked = [_wanted(request) for request in requests]
        lists = [
            pb.get_input_tensor_by_name(request, "FEATURES").as_numpy()
            for request, wanted in zip(requests, asked, strict=True)
            if "SCORES" in wanted
        ]
        try:
            answers = iter(answer(lists, self._width, self._network.score))
        except Exception as error:  # one that escapes would fail the batch without a word of what happened
            return [_failure(f"scoring failed: {error}", pb.TritonError.INTERNAL) for _ in requests]
        return [self._response(wanted, answers) for wanted in asked]

    def _response(self, wanted: set[str], answers: Any) -> Any:
        if not wanted:
            return _failure("cancelled", pb.TritonError.CANCELLED)
        tensors = [pb.Tensor("NAMES", self._names)] if "NAMES" in wanted else []
        if "SCORES" in wanted:
            scores = next(answers)
            if isinstance(scores, BadFeatures):
                return _failure(str(scores), pb.TritonError.INVALID_ARG)
            tensors.append(pb.Tensor("SCORES", scores))
        return pb.InferenceResponse(tensors)


def _wanted(request: Any) -> set[str]:
    """The outputs a request asks for; none where it was cancelled."""
    return set() if request.is_cancelled() else set(request.requested_output_names())


def _failure(message: str, code: int) -> Any:
    return pb.InferenceResponse(error=pb.TritonError(message, code))
