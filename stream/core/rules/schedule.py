"""When a rule holds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = get_args(Day)
Hours = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]


@lru_cache(maxsize=100)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Times at which a rule holds: every field that is given must hold. Nothing given is always."""

    from_: datetime | None = msgspec.field(default=None, name="from")
    """Not before this time; without an offset it is a time of `time_zone`."""
    until: datetime | None = None
    """Before this time; without an offset it is a time of `time_zone`."""
    days: tuple[Day, ...] = ()
    """Only on these days of the week."""
    hours: tuple[Hours, ...] = ()
    """Only within one of these, such as "08:00-12:30"; one past midnight belongs to the day it begins on."""
    time_zone: str = "UTC"
    """Name in the IANA time zone database, such as "Europe/Berlin"."""

    def __post_init__(self) -> None:
        try:
            zone = _zone(self.time_zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(
                f"time_zone {self.time_zone!r} is no name of the IANA database, such as Europe/Berlin"
            ) from None
        begin, end = self.from_, self.until
        if begin and end and _aware(begin, zone) >= _aware(end, zone):
            raise ValueError("from is not before until")

    def holds(self, at_ms: int) -> bool:
        """Whether a time, in epoch ms, is within."""
        if self == ALWAYS:
            return True
        zone = _zone(self.time_zone)
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        if self.from_ is not None and at < _aware(self.from_, zone):
            return False
        if self.until is not None and at >= _aware(self.until, zone):
            return False
        local = at.astimezone(zone)
        return any(
            self._begins_on(local - timedelta(days=ago), minute + 1440 * ago)
            for minute in (60 * local.hour + local.minute,)
            for ago in (0, 1)
        )

    def _begins_on(self, day: datetime, minute: int) -> bool:
        """Whether a time that began on a day holds `minute` minutes after that day's midnight."""
        if self.days and DAYS[day.weekday()] not in self.days:
            return False
        return any(begin <= minute < end for begin, end in map(_span, self.hours or ("00:00-24:00",)))


ALWAYS = Schedule()


def _aware(at: datetime, zone: ZoneInfo) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=zone)


def _span(hours: str) -> tuple[int, int]:
    """Minutes from the midnight of the day it begins on; above 1440 on the next one."""
    begin_hour, begin_minute, end_hour, end_minute = map(int, re.findall(r"\d\d", hours))
    begin, end = 60 * begin_hour + begin_minute, 60 * end_hour + end_minute
    return begin, end if end > begin else end + 1440
