"""Exit with 0 when every model named answers an inference, else say what is wrong; for a container's health.

Usage: healthcheck.py URL MODEL...

A model whose process died still counts as ready for Triton, and a response cache answers for it what was
asked before: so each model is given something new to work on. Of a model with several processes the one that
answers is not chosen here. Standard library only.
"""

from __future__ import annotations

import json
import random
import sys
import time
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 4.0


def main() -> None:
    """Ask each model in turn."""
    url, *models = sys.argv[1:]
    for model in models:
        try:
            config = _ask(f"{url}/v2/models/{model}/config")
            _ask(f"{url}/v2/models/{model}/infer", canary(config))
        except OSError as error:
            said = error.read().decode() if isinstance(error, urllib.error.HTTPError) else ""
            sys.exit(f"{model}: {error} {said}".rstrip())


def canary(config: dict[str, Any]) -> dict[str, Any]:
    """Make one inference of the smallest shape that a model's configuration allows, of new content.

    Of several outputs the last is asked for: the reranker's asks nothing of the width of its input.
    """
    inputs = []
    for tensor in config["input"]:
        shape = [max(1, int(size)) for size in tensor["dims"]]
        count = 1
        for size in shape:
            count *= size
        text = tensor["data_type"] == "TYPE_STRING"
        inputs.append(
            {
                "name": tensor["name"],
                "shape": [1, *shape] if config["max_batch_size"] > 0 else shape,
                "datatype": "BYTES" if text else tensor["data_type"].removeprefix("TYPE_"),
                "data": [f"ready? {time.time_ns()}" if text else random.random() for _ in range(count)],
            }
        )
    return {"inputs": inputs, "outputs": [{"name": config["output"][-1]["name"]}]}


def _ask(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data, timeout=TIMEOUT_S) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


if __name__ == "__main__":
    main()
