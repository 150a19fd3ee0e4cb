"""What is logged of a list so that the reranker can learn from what followed it.

The rows are the very ones that the list was ranked by, computed once: learning and serving cannot differ.
They are kept in half precision, which halves the log. A value is then off by at most 1/2048 of itself, and
features are shares and logarithms of a few units, with spreads of about one: what is learnt from is off by
some thousandths of a spread, far less than what tells two candidates apart.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.events import RecommendationList, Trigger
from stream.errors import InvalidMessage

LAYOUT = 1
LARGEST = float(np.finfo(np.float16).max)
SHARES = 1 << 16


class LoggedList(msgspec.Struct, frozen=True, array_like=True):
    """One list as it was made. Positions are among the N candidates; times are epoch milliseconds.

    `items` [N] are the candidates and `seen` the positions of those the session has shown already, which only
    fill up. `shown` are the positions of the list, best first, each with its propensity. `rows` holds
    [N, len(features)] half-precision numbers, little-endian, row by row.
    """

    layout: int
    recommendation_id: str
    user_id: str
    placement: str
    at_ms: int
    trigger: Trigger
    model_versions: dict[str, str]
    policy: str
    features: list[str]
    items: list[str]
    seen: list[int]
    shown: list[int]
    propensities: list[float]
    rows: bytes

    def table(self) -> NDArray[np.float16]:
        """The feature rows [N, len(features)], read-only."""
        return np.frombuffer(self.rows, "<f2").reshape(len(self.items), len(self.features))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LoggedList)


def logged(
    made: RecommendationList,
    items: Sequence[str],
    seen: NDArray[np.bool_],
    features: Sequence[str],
    rows: NDArray[np.float32],
) -> LoggedList:
    """Put together what is logged of a list.

    Args:
        items: the candidates [N], `seen` [N] which of them the session has shown.
        rows: what the list was ranked by [N, len(features)].
    """
    place = {item_id: position for position, item_id in enumerate(items)}
    shown = [item for item in made.items if item.item_id in place]
    half = np.clip(rows, -LARGEST, LARGEST).astype("<f2")
    return LoggedList(
        layout=LAYOUT,
        recommendation_id=made.recommendation_id,
        user_id=made.user_id,
        placement=made.placement,
        at_ms=made.generated_at,
        trigger=made.trigger,
        model_versions=made.model_versions,
        policy=made.policy,
        features=list(features),
        items=list(items),
        seen=np.flatnonzero(seen).tolist(),
        shown=[place[item.item_id] for item in shown],
        propensities=[item.propensity for item in shown],
        rows=half.tobytes(),
    )


def encode(one: LoggedList) -> bytes:
    """Write a record."""
    return _encoder.encode(one)


def decode(data: bytes) -> LoggedList:
    """Read a record.

    Raises:
        InvalidMessage: it is none, or of another layout.
    """
    try:
        one = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidMessage("damaged", f"list log: {error}") from None
    if one.layout != LAYOUT:
        raise InvalidMessage("damaged", f"list log: layout {one.layout}, this code reads {LAYOUT}")
    if len(one.rows) != 2 * len(one.items) * len(one.features):
        raise InvalidMessage("damaged", f"list log: {len(one.rows)} bytes of rows")
    return one


def is_sampled(recommendation_id: str, share: float) -> bool:
    """Whether a list is among the share (0 to 1) that is logged; the same list always or never is."""
    return zlib.crc32(recommendation_id.encode()) % SHARES < share * SHARES
