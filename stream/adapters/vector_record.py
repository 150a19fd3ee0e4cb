"""`ItemVector` to the bytes on `item-vectors` and back: a version byte, then msgpack; the vector as f16."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from stream.core.events import Source
from stream.core.items import DIMENSIONS, Item
from stream.errors import InvalidMessage
from stream.ports import ItemVector

VERSION = 1


class _Record(msgspec.Struct, array_like=True, frozen=True):
    item: Item
    vector: bytes
    encoder_version: str
    source: Source


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_Record)


def encode(made: ItemVector) -> bytes:
    """Write a record; a missing vector is an empty byte string."""
    vector = b"" if made.vector is None else made.vector.astype(np.float16).tobytes()
    return bytes([VERSION]) + _encoder.encode(_Record(made.item, vector, made.encoder_version, made.source))


def decode(data: bytes) -> ItemVector:
    """Read a record.

    Raises:
        InvalidMessage: the version is unknown or the bytes are damaged.
    """
    if not data or data[0] != VERSION:
        raise InvalidMessage("unknown_version", f"item vector of version {data[:1].hex() or 'none'}")
    try:
        record = _decoder.decode(data[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage("damaged", f"item vector: {error}") from None
    vector = None
    if record.vector:
        if len(record.vector) != 2 * DIMENSIONS:
            raise InvalidMessage("damaged", f"item vector: {len(record.vector)} bytes of numbers")
        vector = np.frombuffer(record.vector, np.float16).astype(np.float32)
    return ItemVector(record.item, vector, record.encoder_version, record.source)
