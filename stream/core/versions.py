"""Which versions of a model serve: the records of the topic `model-versions`, one a model."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stream.errors import InvalidMessage

VERSION = 1
"""Of a record; grows when a reader of the former version would go wrong."""


class Serving(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in force for one model. Versions are those of Triton, "" for none.

    An encoder's `candidate` is being filled with the items' vectors and serves nobody yet.
    """

    active: str
    """Makes the lists."""
    previous: str = ""
    """Served before `active`; what a rollback goes back to."""
    candidate: str = ""
    """Is about to take over."""
    at_ms: int = 0
    """Epoch ms of this decision."""
    at_once: bool = False
    """Take `active` over even where some items have no vector of it yet."""
    forced: str = ""
    """Why the gate was overruled, where it was."""
    version: int = 1
    """Of the record."""

    @property
    def kept(self) -> tuple[str, ...]:
        """The versions whose vectors are kept up, at most two."""
        second = self.candidate or self.previous
        return (self.active, second) if second and second != self.active else (self.active,)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Serving)


def encode(serving: Serving) -> bytes:
    """Write a record."""
    return _encoder.encode(serving)


def decode(data: bytes) -> Serving:
    """Read a record; fields that are not known are skipped.

    Raises:
        InvalidMessage: it is none, or of a newer version.
    """
    try:
        serving = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage("damaged", f"model versions: {error}") from None
    if serving.version > VERSION:
        raise InvalidMessage("unknown_version", f"model versions of version {serving.version}")
    return serving


def order(version: str) -> tuple[int, str]:
    """Sort versions as Triton does, by number."""
    return (int(version), version) if version.isdigit() else (-1, version)


def difference(read: Sequence[str], computed: Sequence[str]) -> str:
    """Say by which features a version of the reranker and the code differ; "" where they are the same."""
    if list(read) == list(computed):
        return ""
    lacks = [name for name in computed if name not in read]
    unknown = [name for name in read if name not in computed]
    said = [f"it lacks {', '.join(lacks)}"] * bool(lacks) + [f"it reads {', '.join(unknown)}"] * bool(unknown)
    return "; ".join(said) or "the same in another order"
