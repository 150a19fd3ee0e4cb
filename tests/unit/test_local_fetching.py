"""Fetching and caching for the local stack, without any server."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stream.errors import LocalStackError
from stream.local import cache
from stream.local.fetching import Fetching


def test_a_thing_is_built_once_and_then_found(tmp_path: Path) -> None:
    builds: list[Path] = []

    def build(folder: Path) -> None:
        builds.append(folder)
        (folder / "content").write_text("whole")

    for _ in range(2):
        assert (cache.built(tmp_path / "thing", build, Fetching()) / "content").read_text() == "whole"
    assert len(builds) == 1


def test_a_build_that_fails_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "content").write_text("half")
        raise LocalStackError("the line went dead")

    with pytest.raises(LocalStackError, match="went dead"):
        cache.built(tmp_path / "thing", build, Fetching())
    assert [path.name for path in tmp_path.iterdir()] == ["thing.lock"]


def test_what_a_killed_build_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "thing.partial-killed").mkdir()
    cache.built(tmp_path / "thing", lambda folder: None, Fetching())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thing", "thing.lock"]


def test_two_that_need_the_same_thing_build_it_once(tmp_path: Path) -> None:
    builds: list[Path] = []
    both_asked = threading.Barrier(2)

    def ask(_: int) -> None:
        both_asked.wait(10)
        cache.built(tmp_path / "thing", builds.append, Fetching())

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(ask, range(2)))
    assert len(builds) == 1


def test_waiting_for_somebody_elses_build_ends_when_the_fetch_is_cancelled(tmp_path: Path) -> None:
    fetching = Fetching()
    fetching.cancel()
    with cache.locked(tmp_path / "thing.lock"), pytest.raises(LocalStackError, match="cancelled"):
        cache.built(tmp_path / "thing", lambda folder: None, fetching)


def test_a_command_that_fails_is_shown_with_its_last_lines() -> None:
    fetching = Fetching()
    with (
        fetching.step("a step") as step,
        pytest.raises(LocalStackError, match=r"No luck \(exit code 3\):\n  out of disk"),
    ):
        fetching.run(["sh", "-c", "echo out of disk; exit 3"], failed="No luck", step=step)


def test_a_command_that_is_not_there_is_named() -> None:
    fetching = Fetching()
    with fetching.step("a step") as step, pytest.raises(LocalStackError, match="no-such-program"):
        fetching.run(["no-such-program"], failed="No luck", step=step)


def test_a_running_command_is_killed_when_the_fetch_is_cancelled() -> None:
    fetching = Fetching()

    class Watched:
        def advance(self) -> None: ...

        def note(self, text: str) -> None:
            fetching.cancel()

        def done(self) -> None: ...

    with pytest.raises(LocalStackError, match="cancelled"):
        fetching.run(["sh", "-c", "echo begun; exec sleep 600"], failed="No luck", step=Watched())
    with pytest.raises(LocalStackError, match="cancelled"), fetching.step("the next step"):
        pass


def test_a_command_can_be_asked_to_end_once_it_says_it_is_done() -> None:
    fetching = Fetching()
    with fetching.step("a step") as step:
        fetching.run(
            ["sh", "-c", "echo Server started; exec sleep 600"], failed="No luck", step=step, end_at="started"
        )
