"""The encoder and the reranker on NVIDIA Triton, over gRPC, each behind a deadline and a circuit breaker."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stream.adapters import tls
from stream.adapters.circuit_breaker import CircuitBreaker
from stream.config import Triton
from stream.core.items import DIMENSIONS, FloatArray
from stream.core.ranking import FEATURES
from stream.core.versions import difference
from stream.errors import ModelUnavailable
from stream.tracing import carried

log = logging.getLogger(__name__)

ENCODER_BATCH = 32
RELOAD_TIMEOUT_S = 30.0
HEARD_OUT_S = 30.0
"""An answer is heard out for so long, whoever has gone on without it: see `TritonModel`."""
STUB_DIED = "Stub process"
"""Begins what Triton answers for ever once the process of a Python model has died, until it is reloaded.

It answers so after a second (1.00 to 1.10 s measured), which is longer than a list waits.
"""


def connect(triton: Triton) -> InferenceServerClient:
    """Make a client of the server; to be called in the running event loop.

    Reconnecting backs off to one second at most, so that a server that is back is soon noticed.

    Raises:
        ConfigError: a certificate cannot be used.
    """
    if triton.tls:
        tls.context(triton, tls.TRITON)  # gRPC reads the same files and does not say what is wrong with them
    return InferenceServerClient(
        triton.url,
        ssl=triton.tls,
        root_certificates=triton.ca_file or None,
        private_key=triton.key_file or None,
        certificate_chain=triton.certificate_file or None,
        channel_args=[
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ],
    )


NewBreaker = Callable[[], CircuitBreaker]
Version = Callable[[], str]


def newest() -> str:
    """The version of a model of which nobody said which serves: "", Triton takes the highest."""
    return ""


class TritonModel:
    """One model of the server: calls with a deadline, and a reload where its process died.

    A call whose deadline is over is not cancelled but heard out. Its answer says whether the model's process
    died; and a request that is cancelled just as it ends may kill Triton up to release 25.01 (SIGSEGV in its
    gRPC front end, a known fault). The breaker bounds how many calls are late at once.

    Each version has a breaker of its own, so that a candidate that fails does not close the way to the
    version that serves.

    Args:
        new_breaker: makes a breaker for one more version.
        version: which one to ask now.
    """

    def __init__(
        self,
        client: InferenceServerClient,
        name: str,
        new_breaker: NewBreaker | None = None,
        version: Version = newest,
    ) -> None:
        self.name = name
        self._client = client
        self._new_breaker = new_breaker or (lambda: CircuitBreaker(time.monotonic))
        self._version = version
        self._breakers: dict[str, CircuitBreaker] = {}
        self._reloading: asyncio.Task[None] | None = None
        self._reloads = 0

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
        if version not in self._breakers:
            self._breakers[version] = self._new_breaker()
        breaker = self._breakers[version]
        if not breaker.allows():
            raise ModelUnavailable(self.name, "circuit_open", f"{self.name}: not asked, it failed lately")
        call = asyncio.ensure_future(
            self._client.infer(
                self.name,
                inputs,
                model_version=version,
                outputs=[InferRequestedOutput(output)],
                client_timeout=max(timeout_s, HEARD_OUT_S),
                headers=carried(),
            )
        )
        call.add_done_callback(partial(self._heard, self._reloads))
        try:
            result = await asyncio.wait_for(asyncio.shield(call), timeout_s)
            tensor = result.as_numpy(output)
            if tensor is None:
                raise InferenceServerException(f"no output {output} in the answer")
        except TimeoutError:
            breaker.failed()
            raise ModelUnavailable(
                self.name, "deadline", f"{self.name}: no answer in {timeout_s * 1000:.0f} ms"
            ) from None
        except (InferenceServerException, grpc.RpcError) as error:
            reason = _reason(error)
            if reason == "refused":
                breaker.succeeded()
            else:
                breaker.failed()
            raise ModelUnavailable(self.name, reason, f"{self.name}: {error}") from error
        breaker.succeeded()
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

    def _heard(self, reloads: int, call: asyncio.Future[Any]) -> None:
        """Have the model loaded again where an answer, late or not, says that its process died.

        Args:
            reloads: how often it had been, when the call began: a later one has mended what is told here.
        """
        error = None if call.cancelled() else call.exception()
        idle = self._reloading is None or self._reloading.done()
        if STUB_DIED in str(error) and idle and reloads == self._reloads:
            self._reloading = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        """Load the model again, with a parameter that differs: Triton takes no notice of an unchanged one.

        Workers that notice within the same half minute ask for the same, so that it happens once.
        """
        log.warning("the process of model %s died: asking Triton to load it again", self.name)
        try:
            answer = await self._client.get_model_config(
                self.name, as_json=True, client_timeout=RELOAD_TIMEOUT_S
            )
            config = answer["config"]
            half_minute = str(int(time.time() / RELOAD_TIMEOUT_S))
            config.setdefault("parameters", {})["revived"] = {"string_value": half_minute}
            await self._client.load_model(
                self.name, config=json.dumps(config), client_timeout=RELOAD_TIMEOUT_S
            )
        except (InferenceServerException, grpc.RpcError) as error:
            log.warning("Triton did not load model %s again: %s", self.name, error)
        self._reloads += 1


class TritonEncoder:
    """`Encoder` on the model whose input is `TEXT` (bytes, [1]) and whose output is `EMBEDDING` ([384])."""

    def __init__(
        self,
        client: InferenceServerClient,
        name: str = "encoder",
        new_breaker: NewBreaker | None = None,
        version: Version = newest,
    ) -> None:
        self.model = TritonModel(client, name, new_breaker, version)

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
        client: InferenceServerClient,
        name: str = "reranker",
        new_breaker: NewBreaker | None = None,
        version: Version = newest,
        features: tuple[str, ...] = FEATURES,
    ) -> None:
        self.model = TritonModel(client, name, new_breaker, version)
        self._version = version
        self._features = features
        self._fits: dict[str, bool] = {}

    async def score(self, features: FloatArray, timeout_s: float) -> tuple[FloatArray, str]:
        """Score one list; Triton batches the lists that are in flight. See `stream.ports.Reranker`."""
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
