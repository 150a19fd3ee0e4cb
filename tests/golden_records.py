"""Records that outlive a release, and their bytes by version in `tests/golden/`.

    .venv/bin/python -P tests/golden_records.py

writes the bytes of versions that have none yet. What is there is never written again: the bytes of a version
that was released lie in somebody's Kafka and Redis, and stay readable.
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stream.adapters import trainer_checkpoint, vector_record
from stream.core import attribution, codec, list_log, signals, versions
from stream.core.attribution import KeptItem, KeptList
from stream.core.events import (
    AttributedItem,
    Attribution,
    RecommendationList,
    RecommendedItem,
    Source,
    Trigger,
)
from stream.core.items import DIMENSIONS, Item
from stream.core.list_log import LoggedList
from stream.core.signals import Increment, ItemSignals
from stream.core.state import Interaction, Owned, Search, UserState, erased
from stream.core.versions import Serving
from stream.ports import ItemVector, WorkerReport

FOLDER = Path(__file__).with_name("golden")
AT_MS = 1_790_000_000_000

STATE = UserState(
    "ann",
    AT_MS + 1,
    (
        Interaction(AT_MS - 60_000, "85123A", 0, 7, 11),
        Interaction(AT_MS - 30_000, "カップ\n", 2, 7, 12),
        Interaction(AT_MS, "85123A", 4, 0, 13),
    ),
    (Search(AT_MS - 45_000, "white lantern", 14),),
    (Owned(AT_MS, "85123A"),),
)

ERASED = erased(STATE, AT_MS + 2, AT_MS + 86_400_000)


def _column(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


SIGNALS = ItemSignals(
    applied={"clicks/0": 7, "clicks/3": 2**40},
    popularity=(1.5, 2.5, 3.5, 4.5),
    neighbours=("mug", "カップ"),
    forward=_column(0.5, 1.25),
    backward=_column(0.25, -np.inf),
    recent=_column(0.75, 2.0),
    next=_column(-np.inf, 1.0),
    shoppers=np.array([0b11, 1 << 15], np.uint16),
    sessions=np.array([17, 4_000_000_000], np.uint32),
    seen_s=np.array([1_790_000_000, 1_789_999_000], np.uint32),
    around=np.array([[255] * 11 + [0], [1] + [255] * 11], np.uint8),
)
SIGNALS_2 = SIGNALS._replace(shoppers=np.zeros(2, np.uint16))
SIGNALS_1 = SIGNALS_2._replace(
    recent=_column(-np.inf, -np.inf),
    next=_column(-np.inf, -np.inf),
    sessions=signals.EMPTY.sessions,
    seen_s=signals.EMPTY.seen_s,
    around=signals.EMPTY.around,
)
INCREMENTS = [
    Increment("clicks/0", 7, AT_MS, 1.0, [("mug", 0.8)], [("カップ", 1.0)], 17),
    Increment("clicks/0", 8, AT_MS),
]
KEPT = KeptList(
    "r1",
    "home",
    AT_MS,
    AT_MS + 3_600_000,
    "default",
    {"reranker": "3"},
    (
        KeptItem("mug", "session", 1.0, False, AT_MS + 1_000),
        KeptItem("カップ", "trending", 0.25, True, 0),
    ),
)
TRIGGER = Trigger("e1", "clicks", 3, 17, AT_MS)
LIST = RecommendationList(
    schema_version=1,
    recommendation_id="r1",
    user_id="ann",
    placement="home",
    sequence=AT_MS,
    generated_at=AT_MS,
    expires_at=AT_MS + 3_600_000,
    trigger=TRIGGER,
    model_versions={"reranker": "3"},
    degraded=["encoder"],
    items=[
        RecommendedItem("mug", 1, 0.5, "session", "because you viewed カップ"),
        RecommendedItem("cup", 2, 0.25, "new", "new in the shop", 0.25, True),
    ],
    policy="default",
    segment="vip",
    warnings=["rule-1: too few"],
)
ATTRIBUTION = Attribution(
    schema_version=1,
    attribution_id="a1",
    user_id="ann",
    outcome="purchase",
    event_id="e2",
    event_time=AT_MS,
    recommendation_id="r1",
    placement="home",
    generated_at=AT_MS - 1_000,
    matched="recommendation_id",
    model_versions={"reranker": "3"},
    items=[AttributedItem("mug", 1, "session", 0.25, True, 2, 4.5)],
    policy="default",
    currency="EUR",
    value=9.0,
)
LOGGED = LoggedList(
    layout=1,
    recommendation_id="r1",
    user_id="ann",
    placement="home",
    at_ms=AT_MS,
    trigger=TRIGGER,
    model_versions={"reranker": "3"},
    policy="default",
    features=["age", "likeness"],
    items=["mug", "カップ"],
    seen=[1],
    shown=[0],
    propensities=[0.25],
    rows=np.array([[0.5, 1.0], [2.0, -4.0]], "<f2").tobytes(),
)
VECTOR = ItemVector(
    Item("mug", "red mug カップ", description="for tea", category="home > cups", brand="acme", price=2.5),
    {"1": np.linspace(-1, 1, DIMENSIONS).astype(np.float16).astype(np.float32)},
    Source("items", 0, 7, AT_MS),
)
SERVING = Serving("4", "3", "5", AT_MS, True, "the old one is broken")
REPORT = WorkerReport("w1", {"encoder": "2"}, {"encoder": AT_MS}, 17, {"2": 0, "1": 3})
CHECKPOINT = trainer_checkpoint.Checkpoint(
    layout=1,
    learner=b"numbers",
    clicks={0: 17, 3: 2**40},
    lists={0: 5},
    touches=[],
    figures=[],
    outcomes={"learnt": 9},
    learnt_at_roll=4,
    made=["7"],
)


class Kind(NamedTuple):
    """A kind of record: the version that is written today, and `values`, what its versions' bytes say."""

    version: int
    values: dict[int, Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    plain: Callable[[bytes], bytes] = bytes


def _inflated(head: int) -> Callable[[bytes], bytes]:
    """Another build of zlib may find other bytes for the same content."""
    return lambda data: data[:head] + zlib.decompress(data[head:], wbits=-15)


def _json(kind: type[Any]) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    return msgspec.json.encode, msgspec.json.Decoder(kind).decode


def _write_checkpoint(checkpoint: trainer_checkpoint.Checkpoint) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        trainer_checkpoint.write(Path(folder), checkpoint)
        return (Path(folder) / trainer_checkpoint.NAME).read_bytes()


def _read_checkpoint(data: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / trainer_checkpoint.NAME).write_bytes(data)
        return trainer_checkpoint.read(Path(folder))


KINDS: dict[str, Kind] = {
    "state": Kind(
        codec.VERSION,
        {1: STATE, 2: ERASED},
        codec.encode,
        lambda data: codec.decode("ann", data),
        _inflated(9),
    ),
    "item-signals-row": Kind(
        signals.VERSION, {1: SIGNALS_1, 2: SIGNALS_2, 3: SIGNALS}, signals.encode, signals.decode
    ),
    "increments": Kind(
        2,
        {1: [signals.Taught("mug", INCREMENTS)], 2: [signals.Taught("mug", INCREMENTS)]},
        lambda told: signals.encode_increments({one.item_id: one.increments for one in told})[0][1],
        lambda data: signals.decode_increments(b"mug", data),
    ),
    "kept-list": Kind(attribution.VERSION, {1: KEPT}, attribution.encode, attribution.decode, _inflated(1)),
    "recommendation-list": Kind(1, {1: LIST}, *_json(RecommendationList)),
    "attribution": Kind(attribution.SCHEMA_VERSION, {1: ATTRIBUTION}, *_json(Attribution)),
    "list-log": Kind(list_log.LAYOUT, {1: LOGGED}, list_log.encode, list_log.decode),
    "item-vector": Kind(
        vector_record.VERSION, {1: VECTOR, 2: VECTOR}, vector_record.encode, vector_record.decode
    ),
    "model-versions": Kind(versions.VERSION, {1: SERVING}, versions.encode, versions.decode),
    "worker-report": Kind(1, {1: REPORT}, *_json(WorkerReport)),
    "trainer-checkpoint": Kind(
        trainer_checkpoint.LAYOUT, {1: CHECKPOINT}, _write_checkpoint, _read_checkpoint
    ),
}


def path_of(name: str, version: int, folder: Path = FOLDER) -> Path:
    """Where the bytes of a version lie."""
    return folder / f"{name}-{version}.bin"


def write(kinds: dict[str, Kind], folder: Path = FOLDER) -> list[str]:
    """Write the bytes of today's versions that have none; return what is wrong, as sentences."""
    wrong = []
    for name, kind in kinds.items():
        path = path_of(name, kind.version, folder)
        made = kind.encode(kind.values[kind.version])
        if not path.exists():
            path.write_bytes(made)
        elif kind.plain(path.read_bytes()) != kind.plain(made):
            wrong.append(
                f"{path.name} is there and says something else than what is written now: it stays as it is; "
                f"give what is written now the version {kind.version + 1}, and go on reading {kind.version}"
            )
    return wrong


if __name__ == "__main__":
    sys.exit("\n".join(write(KINDS)) or 0)
