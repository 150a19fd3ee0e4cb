"""The encoder and the reranker on NVIDIA Triton, over gRPC, each behind a deadline and a circuit breaker."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from stream.adapters.circuit_breaker import CircuitBreaker
from stream.adapters.triton_servers import Server, Servers
from stream.core.items import DIMENSIONS, FloatArray
from stream.core.ranking import FEATURES
from stream.core.versions import difference
from stream.errors import ModelUnavailable
from stream.telemetry.tracing import carried

log = logging.getLogger(__name__)

ENCODER_BATCH = 32
RELOAD_TIMEOUT_S = 30.0
HEARD_OUT_S = 30.0
"""An answer is heard out for so long, whoever has gone on without it: see `TritonModel`."""
STUB_DIED = "Stub process"
"""Begins what Triton answers for ever once the process of a Python model has died, until it is reloaded.

It answers so after a second (1.00 to 1.10 s measured), which is longer than a list waits.
"""


ASK_ANOTHER = ("unreachable", "overloaded", "error")
"""Reasons why one server gives no answer that say nothing of the others."""

NewBreaker = Callable[[], CircuitBreaker]
Version = Callable[[], str]


def newest() -> str:
    """The version of a model of which nobody said which serves: "", Triton takes the highest."""
    return ""


class _Place:
    """One model at one server: how it fares there, and what is under way."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.breakers: dict[str, CircuitBreaker] = {}
        self.under_way = 0
        self.last_turn = 0
        self.reloading: asyncio.Task[None] | None = None
        self.reloads = 0

    @property
    def load(self) -> tuple[int, int]:
        """What the next call goes by: fewest under way, then whose last call is longest ago."""
        return self.under_way, self.last_turn


class TritonModel:
    """One model, at one server or several: calls with a deadline, and a reload where its process died.

    Of several servers the one with the fewest calls under way is asked. Where it cannot be reached, is full
    or answers with an error, the next one is asked in the time that is left.

    A call whose deadline is over is not cancelled but heard out. Its answer says whether the model's process
    died; and a request that is cancelled just as it ends may kill Triton up to release 25.01 (SIGSEGV in its
    gRPC front end, a known fault). The breaker bounds how many calls are late at once.

    Each version has a breaker of its own at each server, so that a candidate that fails does not close the
    way to the version that serves, nor a server to the others. Where another server is well, one that
    failed is probed beside a call and not in its place, so that no list waits for a probe.

    Args:
        new_breaker: makes a breaker for one more version or server.
        version: which one to ask now.
    """

    def __init__(
        self,
        servers: Servers,
        name: str,
        new_breaker: NewBreaker | None = None,
        version: Version = newest,
    ) -> None:
        self.name = name
        self._places = [_Place(server) for server in servers]
        self._new_breaker = new_breaker or (lambda: CircuitBreaker(time.monotonic))
        self._version = version
        self._turns = 0
        self._probes: set[asyncio.Task[None]] = set()

    async def infer(
        self, inputs: list[InferInput], output: str, timeout_s: float, version: str = ""
    ) -> tuple[Any, str]:
        """Return the output tensor (read-only) and the version of the model that made it.

        Args:
            version: to be asked instead of the one that serves.

        Raises:
            ModelUnavailable: reason `circuit_open`, `deadline`, `overloaded`, `unreachable`, `refused` (the
                model is well, and takes these inputs never) or `error`.
        """
        version = version or self._version()
        until_s = time.monotonic() + timeout_s
        well, probed = self._choose(version)
        if not well and not probed:
            raise ModelUnavailable(self.name, "circuit_open", f"{self.name}: not asked, it failed lately")
        for place in probed if well else ():
            probe = asyncio.ensure_future(self._probe(place, inputs, output, timeout_s, version))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)
        places = well or probed
        for place in places[:-1]:
            try:
                return await self._ask(place, inputs, output, until_s - time.monotonic(), version)
            except ModelUnavailable as error:
                if error.reason not in ASK_ANOTHER or time.monotonic() >= until_s:
                    raise
        return await self._ask(places[-1], inputs, output, until_s - time.monotonic(), version)

    def _choose(self, version: str) -> tuple[list[_Place], list[_Place]]:
        """Places whose circuit is closed, the freest first; and those that are to be probed."""
        for place in self._places:
            if version not in place.breakers:
                place.breakers[version] = self._new_breaker()
        well = [place for place in self._places if not place.breakers[version].is_open]
        failed = [place for place in self._places if place not in well]
        return sorted(well, key=lambda place: place.load), [
            place for place in failed if place.breakers[version].allows()
        ]

    async def _probe(
        self, place: _Place, inputs: list[InferInput], output: str, timeout_s: float, version: str
    ) -> None:
        with suppress(ModelUnavailable):
            await self._ask(place, inputs, output, timeout_s, version)

    async def _ask(
        self, place: _Place, inputs: list[InferInput], output: str, timeout_s: float, version: str
    ) -> tuple[Any, str]:
        """Ask one server; see `infer`."""
        breaker = place.breakers[version]
        name = f"{self.name} at {place.server.address}" if len(self._places) > 1 else self.name
        self._turns += 1
        place.last_turn = self._turns
        place.under_way += 1
        call = asyncio.ensure_future(
            place.server.client.infer(
                self.name,
                inputs,
                model_version=version,
                outputs=[InferRequestedOutput(output)],
                client_timeout=max(timeout_s, HEARD_OUT_S),
                headers=carried(),
            )
        )
        call.add_done_callback(partial(self._heard, place, place.reloads))
        try:
            result = await asyncio.wait_for(asyncio.shield(call), timeout_s)
            tensor = result.as_numpy(output)
            if tensor is None:
                raise InferenceServerException(f"no output {output} in the answer")
        except TimeoutError:
            _failed(name, breaker, "deadline")
            raise ModelUnavailable(
                self.name, "deadline", f"{name}: no answer in {timeout_s * 1000:.0f} ms"
            ) from None
        except (InferenceServerException, grpc.RpcError) as error:
            reason = _reason(error)
            if reason == "refused":
                _succeeded(name, breaker)
            else:
                _failed(name, breaker, reason)
            raise ModelUnavailable(self.name, reason, f"{name}: {error}") from error
        _succeeded(name, breaker)
        return tensor, result.get_response().model_version

    def checked(self, tensor: Any, shape: tuple[int, ...]) -> FloatArray:
        """Give an output as float32.

        Raises:
            ModelUnavailable: with reason `error`, for another shape or numbers that are not finite.
        """
        checked = np.asarray(tensor, np.float32)
        if checked.shape == shape and np.isfinite(checked).all():
            return checked
        raise ModelUnavailable(
            self.name,
            "error",
            f"{self.name}: gave {checked.shape} for {shape}, or numbers that are not finite",
        )

    def _heard(self, place: _Place, reloads: int, call: asyncio.Future[Any]) -> None:
        """Have the model loaded again where an answer, late or not, says that its process died.

        Args:
            reloads: how often it had been, when the call began: a later one has mended what is told here.
        """
        place.under_way -= 1
        error = None if call.cancelled() else call.exception()
        idle = place.reloading is None or place.reloading.done()
        if STUB_DIED in str(error) and idle and reloads == place.reloads:
            place.reloading = asyncio.ensure_future(self._reload(place))

    async def _reload(self, place: _Place) -> None:
        """Load the model again, with a parameter that differs: Triton takes no notice of an unchanged one.

        Workers that notice within the same half minute ask for the same, so that it happens once.
        """
        client = place.server.client
        log.warning("the process of model %s died: asking Triton to load it again", self.name)
        try:
            answer = await client.get_model_config(self.name, as_json=True, client_timeout=RELOAD_TIMEOUT_S)
            config = answer["config"]
            half_minute = str(int(time.time() / RELOAD_TIMEOUT_S))
            config.setdefault("parameters", {})["revived"] = {"string_value": half_minute}
            await client.load_model(self.name, config=json.dumps(config), client_timeout=RELOAD_TIMEOUT_S)
        except (InferenceServerException, grpc.RpcError) as error:
            log.warning("Triton did not load model %s again: %s", self.name, error)
        place.reloads += 1


class TritonEncoder:
    """`Encoder` on the model whose input is `TEXT` (bytes, [1]) and whose output is `EMBEDDING` ([384])."""

    def __init__(
        self,
        servers: Servers,
        name: str = "encoder",
        new_breaker: NewBreaker | None = None,
        version: Version = newest,
    ) -> None:
        self.model = TritonModel(servers, name, new_breaker, version)

    async def encode(
        self, texts: Sequence[str], timeout_s: float, version: str = ""
    ) -> tuple[FloatArray, str]:
        """Encode texts, in requests of up to 32; see `stream.ports.Encoder`.

        They are sent one after another, so that a catalogue being loaded leaves room for queries.
        """
        if not texts:
            return np.zeros((0, DIMENSIONS), np.float32), ""
        until_s = time.monotonic() + timeout_s
        answers = [
            await self._encode_part(
                texts[i : i + ENCODER_BATCH], max(0.001, until_s - time.monotonic()), version
            )
            for i in range(0, len(texts), ENCODER_BATCH)
        ]
        versions = {version for _, version in answers}
        if len(versions) > 1:
            raise ModelUnavailable(
                self.model.name, "version_changed", f"{self.model.name}: two versions answered one call"
            )
        return np.concatenate([vectors for vectors, _ in answers]), versions.pop()

    async def _encode_part(
        self, texts: Sequence[str], timeout_s: float, version: str
    ) -> tuple[FloatArray, str]:
        tensor = InferInput("TEXT", [len(texts), 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=np.object_))
        vectors, made_by = await self.model.infer([tensor], "EMBEDDING", timeout_s, version)
        return self.model.checked(vectors, (len(texts), DIMENSIONS)), made_by


class TritonReranker:
    """`Reranker` on the model whose input is `FEATURES` ([-1, F]) and whose output is `SCORES` ([-1]).

    Each version is asked once, by its output `NAMES`, which features it reads: one that was trained on others
    than `features` gives scores that mean nothing, and is not asked again.
    """

    def __init__(
        self,
        servers: Servers,
        name: str = "reranker",
        new_breaker: NewBreaker | None = None,
        version: Version = newest,
        features: tuple[str, ...] = FEATURES,
    ) -> None:
        self.model = TritonModel(servers, name, new_breaker, version)
        self._version = version
        self._features = features
        self._fits: dict[str, bool] = {}

    async def score(self, features: FloatArray, timeout_s: float) -> tuple[FloatArray, str]:
        """Score rows in one request; Triton batches those in flight. See `stream.ports.Reranker`."""
        until_s = time.monotonic() + timeout_s
        asked = self._version()
        await self._require_fit(asked, timeout_s)
        tensor = InferInput("FEATURES", [1, *features.shape], "FP32")
        tensor.set_data_from_numpy(features[None])
        left_s = max(0.001, until_s - time.monotonic())
        scores, version = await self.model.infer([tensor], "SCORES", left_s, asked)
        if not asked:  # Triton chose, and may have chosen another than the one that was asked for its names
            await self._require_fit(version, max(0.001, until_s - time.monotonic()))
        return self.model.checked(scores, (1, len(features)))[0], version

    async def _require_fit(self, version: str, timeout_s: float) -> None:
        """Let only a version pass that reads this code's features.

        Raises:
            ModelUnavailable: reason `features`, or as `TritonModel.infer`.
        """
        if version not in self._fits:
            tensor = InferInput("FEATURES", [1, 1, 1], "FP32")
            tensor.set_data_from_numpy(np.zeros((1, 1, 1), np.float32))
            names, made_by = await self.model.infer([tensor], "NAMES", timeout_s, version)
            read = tuple(name.decode() for name in names.ravel().tolist())
            self._fits[version] = self._fits[made_by] = read == self._features
            if read != self._features:
                log.error(
                    "%s: version %s is not asked, it reads other features than this code computes (%s): "
                    "promote one that was trained with this code; `streamrec trainer warm-up` trains one",
                    self.model.name,
                    made_by,
                    difference(read, self._features),
                )
        if not self._fits[version]:
            raise ModelUnavailable(
                self.model.name, "features", f"{self.model.name}: version {version} reads other features"
            )


def _failed(name: str, breaker: CircuitBreaker, reason: str) -> None:
    """Count a failure, and say so where it is the one that opens the circuit."""
    was_open = breaker.is_open
    breaker.failed()
    if breaker.is_open and not was_open:
        log.warning("%s: not asked for a while, it failed several times, last by: %s", name, reason)


def _succeeded(name: str, breaker: CircuitBreaker) -> None:
    if breaker.is_open:
        log.warning("%s: answers again", name)
    breaker.succeeded()


def _reason(error: Exception) -> str:
    text = str(error)
    if "INVALID_ARGUMENT" in text:
        return "refused"
    if "Exceeds maximum queue size" in text or "timeout expired" in text:
        return "overloaded"
    if "Deadline" in text or "DEADLINE_EXCEEDED" in text:
        return "deadline"
    if "UNAVAILABLE" in text or "failed to connect" in text.lower():
        return "unreachable"
    return "error"
