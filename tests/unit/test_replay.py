"""Replaying: pace, checkpoints, and what is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stream.core.events import ClickMessage
from stream.errors import WrongFile
from stream.importers.replay import Checkpoint, Pace, Recorded, replay


class Recorder:
    """Stands where the sender stands, and keeps what it is given."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.sent: list[ClickMessage] = []
        self.flushed = 0
        self._fail_at = fail_at

    async def send(self, message: Any) -> None:
        if len(self.sent) == self._fail_at:
            raise ConnectionError
        self.sent.append(message)

    async def flush(self) -> None:
        self.flushed = len(self.sent)


def _recorded(count: int, gap_ms: int = 1000) -> list[Recorded]:
    return [
        Recorded(
            row,
            10**12 + row * gap_ms,
            ClickMessage(f"e{row}", "view_item", 10**12 + row * gap_ms, "u", item_id="i"),
        )
        for row in range(1, count + 1)
    ]


def _replay(events: list[Recorded], sender: Recorder, pace: Pace | None = None, **options: Any) -> list[int]:
    saved: list[int] = []
    settings = {"limit": None, "stamp_now": False, "on_progress": lambda _: None, **options}
    asyncio.run(replay(events, sender, pace or Pace(), checkpoint=saved.append, **settings))  # type: ignore[arg-type]
    return saved


def test_as_fast_as_it_goes_nothing_waits_and_times_are_the_original_ones() -> None:
    sender = Recorder()
    assert _replay(_recorded(100), sender) == [100]
    assert [message.event_time for message in sender.sent] == [10**12 + row * 1000 for row in range(1, 101)]


def test_a_factor_and_a_rate_say_how_long_the_next_event_waits() -> None:
    factor = Pace(speed=10.0)
    assert factor.wait_s(5_000) <= 0
    assert 0.9 < factor.wait_s(15_000) <= 1.0
    rate = Pace(rate=2.0)
    waits = [rate.wait_s(0) for _ in range(5)]
    assert waits[0] <= 0
    assert 1.9 < waits[4] <= 2.0


def test_the_limit_counts_the_events_of_this_run() -> None:
    sender = Recorder()
    assert _replay(_recorded(100), sender, limit=7) == [7]
    assert len(sender.sent) == 7


def test_stamped_events_happen_now_and_in_order() -> None:
    sender = Recorder()
    _replay(_recorded(50), sender, stamp_now=True)
    times = [message.event_time for message in sender.sent]
    assert all(isinstance(time, int) for time in times)
    assert times == sorted(set(times))  # type: ignore[type-var]
    assert min(times) > 10**12 + 10**11  # type: ignore[type-var]


def test_an_interrupted_replay_notes_how_far_everything_is_acknowledged() -> None:
    sender = Recorder(fail_at=10)
    saved: list[int] = []
    with pytest.raises(ConnectionError):
        asyncio.run(
            replay(
                _recorded(100),
                sender,  # type: ignore[arg-type]
                Pace(),
                limit=None,
                stamp_now=False,
                on_progress=lambda _: None,
                checkpoint=saved.append,
            )
        )
    assert saved == [10]
    assert sender.flushed == 10


def test_a_checkpoint_is_read_back_and_none_means_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "c.json"
    assert Checkpoint.load(path, "a file") == 0
    Checkpoint(source="a file", row=42).save(path)
    assert Checkpoint.load(path, "a file") == 42


def test_a_checkpoint_of_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    Checkpoint(source="a file", row=42).save(path)
    with pytest.raises(WrongFile, match="a checkpoint of a file, not of another"):
        Checkpoint.load(path, "another")
    path.write_text("{")
    with pytest.raises(WrongFile, match="not a checkpoint"):
        Checkpoint.load(path, "a file")
