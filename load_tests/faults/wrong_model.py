"""A reranker that answers nonsense, loaded over the one that serves; the repository stays as it is."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

from stream.core.ranking import FEATURES

MODEL = "reranker"
TIMEOUT_S = 60
ANSWERS = {
    "nan": "np.full((1, candidates), np.nan, np.float32)",
    "shape": "np.zeros((1, candidates + 3), np.float32)",
}
"""What it scores so many candidates with."""

_CODE = """\
import json

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        candidates = pb.get_input_tensor_by_name(request, "FEATURES").as_numpy().shape[1]
        names = np.array([[name.encode() for name in json.loads({names!r})]], np.object_)
        answers = {{"NAMES": names, "SCORES": {scores}}}
        wanted = request.requested_output_names()
        return pb.InferenceResponse([pb.Tensor(name, answers[name]) for name in wanted])
"""


def load_wrong(triton_http: str, answer: str) -> None:
    """Have version 1 of the reranker answer as one of `ANSWERS`. Raises `OSError` where Triton does not."""
    with urllib.request.urlopen(f"{triton_http}/v2/models/{MODEL}/config", timeout=TIMEOUT_S) as told:
        config: dict[str, Any] = json.load(told)
    code = _CODE.format(names=json.dumps(FEATURES), scores=ANSWERS[answer])
    parameters = {
        "config": json.dumps(config),
        "file:1/model.py": base64.b64encode(code.encode()).decode(),
    }
    _load(triton_http, {"parameters": parameters})


def load_right(triton_http: str) -> None:
    """Have the repository's own reranker serve again. Raises as `load_wrong`."""
    _load(triton_http, {})


def _load(triton_http: str, body: dict[str, Any]) -> None:
    url = f"{triton_http}/v2/repository/models/{MODEL}/load"
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):
        pass
