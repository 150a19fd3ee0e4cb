"""Triton's explicit model control: which versions it serves, and loading one beside the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from stream.adapters import tls
from stream.adapters.triton_servers import Server, Servers
from stream.config import Triton
from stream.errors import ModelRefused, ModelUnavailable

CONTROL_TIMEOUT_S = 10.0
LOAD_TIMEOUT_S = 300.0
READY = "READY"

Inputs = list[tuple[str, str, NDArray[Any]]]
Ask = Callable[[Inputs, str], Awaitable[NDArray[Any]]]


class Loaded(NamedTuple):
    """How a version fares in Triton: `READY`, or another state and why."""

    state: str
    reason: str


class TritonRepository:
    """What the servers have loaded. A version is ready where all of them serve it.

    Raises, from each method, `ModelUnavailable` with the address of a server that does not answer: what
    changes versions changes them everywhere, or refuses.
    """

    def __init__(self, servers: Servers, triton: Triton) -> None:
        self._servers = [_OneRepository(server, triton) for server in servers]

    async def versions(self) -> dict[str, dict[str, Loaded]]:
        """Return what the servers know, by model and version; of several the first that does not serve it."""
        answers = await asyncio.gather(*(server.versions() for server in self._servers))
        found: dict[str, dict[str, Loaded]] = {}
        for model in dict.fromkeys(model for answer in answers for model in answer):
            here = found[model] = {}
            for version in dict.fromkeys(one for answer in answers for one in answer.get(model, {})):
                here[version] = self._least([answer.get(model, {}).get(version) for answer in answers])
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
        ended = await asyncio.gather(
            *(server.load(model, wanted) for server in self._servers), return_exceptions=True
        )
        for error in ended:
            if error is not None:
                raise error

    def askers(self, model: str, version: str) -> list[Ask]:
        """Make for each server a function that gives an output of one request to one version there.

        It takes the inputs, as name, Triton's data type, and values with the batch first, and the output's
        name; it raises `ModelRefused` where the version answers with an error.
        """
        return [partial(server.ask, model, version) for server in self._servers]

    def _least(self, by_server: list[Loaded | None]) -> Loaded:
        for server, loaded in zip(self._servers, by_server, strict=True):
            if len(self._servers) == 1 and loaded is not None:
                return loaded
            if loaded is None:
                return Loaded("UNAVAILABLE", f"not at {server.address}")
            if loaded.state != READY:
                return Loaded(loaded.state, f"at {server.address}: {loaded.reason}")
        return Loaded(READY, "")


class _OneRepository:
    """What one server has loaded; see `TritonRepository`."""

    def __init__(self, server: Server, triton: Triton) -> None:
        self.address = server.address
        self._client = server.client
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

    async def load(self, model: str, wanted: list[str]) -> None:
        """Serve exactly these versions of a model here."""
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
                    f"Triton at {self.address} did not load version {version} of {model}: "
                    f"{loaded.reason or said or loaded.state}"
                )

    async def ask(self, model: str, version: str, inputs: Inputs, output: str) -> NDArray[Any]:
        """Return an output of one request to one version here."""
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
        host, _, port = self.address.rpartition(":")
        trust = tls.context(self._triton, tls.TRITON) if self._triton.tls else None
        reason = None
        if port.isdecimal():
            reason = await tls.misunderstanding(host.strip("[]"), int(port), trust, tls.TRITON)
        if reason is not None:
            said = f"Triton at {self.address} cannot be used: {reason}"
        else:
            said = (
                f"Triton did not answer at {self.address}: is it running? `streamrec local status` tells "
                f"({error})"
            )
        return ModelUnavailable("triton", "unreachable", said)


def _is_away(error: Exception) -> bool:
    return any(word in str(error) for word in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "failed to connect"))
