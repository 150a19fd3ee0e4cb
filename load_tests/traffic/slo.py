"""What a run must hold, and whether it did."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from stream.errors import ConfigError
from traffic.figures import Interval, resampled_sums, scaled
from traffic.result import Check, Slice, Times

DEFAULT = Path(__file__).parents[1] / "slo.toml"
Limit = Annotated[float, Meta(ge=0)]


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits; None demands nothing. Their meaning stands in `slo.toml`."""

    latency_p99_ms: Limit | None = None
    freshness_p99_ms: Limit | None = None
    lag_slope: Limit | None = None
    unanswered_share: Limit | None = None
    degraded_share: Limit | None = None


def load_slo(path: Path = DEFAULT) -> Slo:
    """Read a file of limits. Raises `ConfigError` where it is missing or wrong."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Slo)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    except msgspec.ValidationError as error:
        names = ", ".join(Slo.__struct_fields__)
        raise ConfigError(f"{path}: {error}; there may be {names}") from None


def judge(
    slo: Slo,
    slices: Sequence[Slice],
    latency: Times,
    freshness: Times,
    lag_slope: Interval | None,
    rate: float,
) -> list[Check]:
    """Compare a run with each limit that is set.

    Args:
        lag_slope: messages a second; None where the lag could not be seen, which holds no limit.
        rate: events a second that were asked for.
    """
    checks = []

    def check(name: str, said: str, found: Interval | None, *, surely: bool = False) -> None:
        limit: float | None = getattr(slo, name)
        if limit is not None:
            judged = None if found is None else found.low if surely else found.value
            checks.append(Check(name, said, limit, found, judged is not None and judged <= limit))

    check("latency_p99_ms", "p99 from intended send to list read, ms", _p99(latency))
    check("freshness_p99_ms", "p99 from event appended to list appended, ms", _p99(freshness))
    per_event = None if lag_slope is None else scaled(lag_slope, 1 / rate)
    check("lag_slope", "growth of the workers' lag, messages for each event", per_event, surely=True)
    check("unanswered_share", "events that no list answered, of all", _share(slices, "unanswered", "sent"))
    check("degraded_share", "lists made without a part, of all", _share(slices, "degraded", "lists"))
    return checks


def _p99(times: Times) -> Interval | None:
    return times.percentiles["p99"] if times.count else None


def _share(slices: Sequence[Slice], part: str, whole: str) -> Interval | None:
    rows = [(getattr(one, part), getattr(one, whole)) for one in slices]
    if not sum(whole_of_it for _, whole_of_it in rows):
        return None
    return resampled_sums(rows, lambda sums: sums[:, 0] / np.maximum(1, sums[:, 1]))
