"""Triton's explicit model control: which versions it serves, and loading one beside the others."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stream.adapters import tls
from stream.config import Triton
from stream.errors import ModelRefused, ModelUnavailable

CONTROL_TIMEOUT_S = 10.0
LOAD_TIMEOUT_S = 300.0
READY = "READY"


class Loaded(NamedTuple):
    """How a version fares in Triton: `READY`, or another state and why."""

    state: str
    reason: str


class TritonRepository:
    """What a server has loaded.

    Raises, from each method, `ModelUnavailable` with the server's address where it does not answer.
    """

    def __init__(self, client: InferenceServerClient, triton: Triton) -> None:
        self._client = client
        self._triton = triton

    async def versions(self) -> dict[str, dict[str, Loaded]]:
        """Return what the server knows, by model and version."""
        try:
            answer = await self._client.get_model_repository_index(client_timeout=CONTROL_TIMEOUT_S)
        except (InferenceServerException, grpc.RpcError) as error:
            raise await self._away(error) from error
        found: dict[str, dict[str, Loaded]] = {}
        for model in answer.models:
            versions = found.setdefault(model.name, {})
            if model.version:
                versions[model.version] = Loaded(model.state, model.reason)
        return found

    async def ready(self, model: str) -> list[str]:
        """Return the versions of a model that answer, in no order."""
        versions = (await self.versions()).get(model, {})
        return [version for version, loaded in versions.items() if loaded.state == READY]

    async def load(self, model: str, wanted: list[str]) -> None:
        """Serve exactly these versions of a model; those that serve already go on while others load.

        Raises:
            ModelRefused: not all of them came up; why, as Triton says it. Those that did serve.
        """
        try:
            await self._client.load_model(
                model, config=await self._config(model, wanted), client_timeout=LOAD_TIMEOUT_S
            )
        except (InferenceServerException, grpc.RpcError) as error:
            if _is_away(error):
                raise await self._away(error) from error
            said = str(error)
        else:
            said = ""
        versions = (await self.versions()).get(model, {})
        for version in wanted:
            loaded = versions.get(version, Loaded("UNAVAILABLE", said or "no such folder in its repository"))
            if loaded.state != READY:
                raise ModelRefused(
                    f"Triton at {self._triton.url} did not load version {version} of {model}: "
                    f"{loaded.reason or said or loaded.state}"
                )

    async def ask(
        self, model: str, version: str, inputs: list[tuple[str, str, NDArray[Any]]], output: str
    ) -> NDArray[Any]:
        """Return an output of one request to one version.

        Args:
            inputs: name, Triton's data type, and values with the batch first.

        Raises:
            ModelRefused: the version answers with an error.
        """
        tensors = []
        for name, datatype, values in inputs:
            tensor = InferInput(name, list(values.shape), datatype)
            tensor.set_data_from_numpy(values)
            tensors.append(tensor)
        try:
            answer = await self._client.infer(
                model,
                tensors,
                model_version=version,
                outputs=[InferRequestedOutput(output)],
                client_timeout=CONTROL_TIMEOUT_S,
            )
        except (InferenceServerException, grpc.RpcError) as error:
            if _is_away(error):
                raise await self._away(error) from error
            raise ModelRefused(f"version {version} of {model} answers with an error: {error}") from error
        found = answer.as_numpy(output)
        if found is None:
            raise ModelRefused(f"version {version} of {model} gives no {output}")
        return np.asarray(found)

    async def _config(self, model: str, wanted: list[str]) -> str | None:
        """The configuration in force, with other versions; None where there is none: the file's is taken."""
        try:
            answer = await self._client.get_model_config(
                model, as_json=True, client_timeout=CONTROL_TIMEOUT_S
            )
        except (InferenceServerException, grpc.RpcError) as error:
            if _is_away(error):
                raise await self._away(error) from error
            return None
        config = answer["config"]
        config["version_policy"] = {"specific": {"versions": sorted(map(int, wanted))}}
        return json.dumps(config)

    async def _away(self, error: Exception) -> ModelUnavailable:
        host, _, port = self._triton.url.rpartition(":")
        trust = tls.context(self._triton, tls.TRITON) if self._triton.tls else None
        reason = None
        if port.isdecimal():
            reason = await tls.misunderstanding(host.strip("[]"), int(port), trust, tls.TRITON)
        if reason is not None:
            said = f"Triton at {self._triton.url} cannot be used: {reason}"
        else:
            said = (
                f"Triton did not answer at {self._triton.url}: is it running? `streamrec local status` tells "
                f"({error})"
            )
        return ModelUnavailable("triton", "unreachable", said)


def _is_away(error: Exception) -> bool:
    return any(word in str(error) for word in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "failed to connect"))
