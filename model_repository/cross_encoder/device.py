"""Where ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import onnxruntime

CUDA = "CUDAExecutionProvider"


def providers(device: str) -> list[Any]:
    """Return the providers of a session on `cpu` or on `cuda`, with perhaps a number, as in `cuda:1`.

    Raises:
        RuntimeError: there is no CUDA here; to compute on the CPU unasked would only look like serving.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return ["CPUExecutionProvider"]
    if CUDA not in onnxruntime.get_available_providers():
        raise RuntimeError("The onnxruntime here has no CUDA: pip install onnxruntime-gpu in place of it.")
    onnxruntime.preload_dlls()  # those that pip installed
    return [(CUDA, {"device_id": int(number or 0)}), "CPUExecutionProvider"]
