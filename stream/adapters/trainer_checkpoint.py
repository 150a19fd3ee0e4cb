"""Where a trainer is, on disk: written whole or not at all, and by one trainer at a time."""

from __future__ import annotations

import fcntl
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from stream.core.following import Touch
from stream.core.learning import OnlineLearner
from stream.core.running_figures import Entry
from stream.errors import TrainerRefused

LAYOUT = 1
NAME = "checkpoint"
LOCK = "lock"


class Checkpoint(msgspec.Struct, frozen=True):
    """All that a trainer needs to go on.

    `clicks` and `lists` are the next offsets by partition; `touches` are the open sessions. `learnt_at_roll`
    is how many lists were learnt when a version was last made, `made` the versions of this trainer.
    """

    layout: int
    learner: bytes
    clicks: dict[int, int]
    lists: dict[int, int]
    touches: list[tuple[int, int, list[tuple[str, list[Touch]]]]]
    figures: list[Entry]
    outcomes: dict[str, int]
    learnt_at_roll: int = 0
    made: list[str] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Checkpoint)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one trainer at a time use a folder, which is made where it is missing.

    Raises:
        TrainerRefused: another one uses it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise TrainerRefused(
            f"{folder} cannot be written ({error.strerror}): set trainer.folder to one that can"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainerRefused(
                f"another trainer uses {folder}: stop it, or set trainer.folder to another folder"
            ) from None
        yield


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint in the place of the one before."""
    handle, partial = tempfile.mkstemp(prefix=f".{NAME}-", dir=folder)
    with os.fdopen(handle, "wb") as file:
        file.write(_encoder.encode(checkpoint))
        file.flush()
        os.fsync(file.fileno())
    Path(partial).replace(folder / NAME)


def read(folder: Path) -> Checkpoint | None:
    """Read the checkpoint of a folder, None where there is none.

    Raises:
        TrainerRefused: it is damaged, or of another layout.
    """
    path = folder / NAME
    try:
        checkpoint = _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise TrainerRefused(f"{path} is damaged ({error}): remove it to begin anew") from None
    if checkpoint.layout != LAYOUT:
        raise TrainerRefused(f"{path} has layout {checkpoint.layout}, this code reads {LAYOUT}: remove it")
    return checkpoint


def learner_bytes(learner: OnlineLearner) -> bytes:
    """Write all that a learner knows."""
    buffer = io.BytesIO()
    np.savez(buffer, **learner.state())  # type: ignore[arg-type]
    return buffer.getvalue()


def learner_of(data: bytes) -> OnlineLearner:
    """Read what `learner_bytes` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return OnlineLearner.from_state(arrays)
