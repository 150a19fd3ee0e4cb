"""Records with header names that are no text, as clients in other languages can send them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.producer import message_accumulator, producer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy


class OddName(str):
    """A header's name that is written as bytes of one's own."""

    def __new__(cls, raw: bytes) -> OddName:
        made = super().__new__(cls, raw.decode(errors="backslashreplace"))
        made.raw = raw
        return made

    raw: bytes

    def encode(self, *_: Any, **__: Any) -> bytes:
        return self.raw


@contextmanager
def producers_that_send_them() -> Iterator[None]:
    """Have producers of this process write names by `encode`, which aiokafka's compiled writer does not."""
    sound = producer.DefaultRecordBatchBuilder
    users = (producer, message_accumulator)
    for module in users:
        module.DefaultRecordBatchBuilder = _DefaultRecordBatchBuilderPy
    try:
        yield
    finally:
        for module in users:
            module.DefaultRecordBatchBuilder = sound
