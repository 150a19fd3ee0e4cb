"""`ItemVector` to the bytes on `item-vectors` and back: a version byte, then msgpack; vectors as f16.

Version 2 holds vectors by the encoder's version. Version 1 held one vector; it is still read.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from stream.core.events import Source
from stream.core.items import DIMENSIONS, FloatArray, Item
from stream.errors import InvalidMessage
from stream.ports import ItemVector

VERSION = 2


class _Record1(msgspec.Struct, array_like=True, frozen=True):
    item: Item
    vector: bytes
    encoder_version: str
    source: Source


class _Record2(msgspec.Struct, array_like=True, frozen=True):
    item: Item
    vectors: dict[str, bytes]
    source: Source


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    1: msgspec.msgpack.Decoder(_Record1),
    2: msgspec.msgpack.Decoder(_Record2),
}


def encode(made: ItemVector) -> bytes:
    """Write a record."""
    vectors = {version: vector.astype(np.float16).tobytes() for version, vector in made.vectors.items()}
    return bytes([VERSION]) + _encoder.encode(_Record2(made.item, vectors, made.source))


def decode(data: bytes) -> ItemVector:
    """Read a record.

    Raises:
        InvalidMessage: the version is unknown or the bytes are damaged.
    """
    decoder = _decoders.get(data[0]) if data else None
    if decoder is None:
        raise InvalidMessage("unknown_version", f"item vector of version {data[:1].hex() or 'none'}")
    try:
        record = decoder.decode(data[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage("damaged", f"item vector: {error}") from None
    if isinstance(record, _Record1):
        vectors = {record.encoder_version: record.vector} if record.vector else {}
    else:
        vectors = record.vectors
    return ItemVector(
        record.item, {version: _vector(numbers) for version, numbers in vectors.items()}, record.source
    )


def _vector(numbers: bytes) -> FloatArray:
    if len(numbers) != 2 * DIMENSIONS:
        raise InvalidMessage("damaged", f"item vector: {len(numbers)} bytes of numbers")
    return np.frombuffer(numbers, np.float16).astype(np.float32)
