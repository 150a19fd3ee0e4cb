"""Fetching and building what a stack needs: shown while it goes on, and ended at once on demand."""

import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from stream.errors import LocalStackError
from stream.local.processes import die_with_parent


class Step(Protocol):
    """One thing under way."""

    def advance(self) -> None:
        """Count one more part of a step that has a total."""

    def note(self, text: str) -> None:
        """Show what the step is doing at the moment."""

    def done(self) -> None:
        """End the step well."""


class Progress(Protocol):
    """Where steps are announced, from several threads."""

    def step(self, what: str, total: int | None = None) -> Step:
        """Begin a step of `total` parts, or of unknown length."""


class Fetching:
    """What the steps of one fetch share: where they are shown, and their common end."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress or _Unseen()
        self._cancelled = threading.Event()
        self._running: set[subprocess.Popen[str]] = set()

    def cancel(self) -> None:
        """End every step: commands are killed, and what asks `go_on` stops."""
        self._cancelled.set()
        for process in tuple(self._running):
            process.kill()

    def go_on(self) -> None:
        """Return if the fetch was not cancelled.

        Raises:
            LocalStackError: it was.
        """
        if self._cancelled.is_set():
            raise LocalStackError("cancelled")

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Step]:
        """Show a step while it goes on."""
        self.go_on()
        step = self._progress.step(what, total)
        yield step
        step.done()

    def run(
        self,
        argv: list[str],
        *,
        failed: str,
        step: Step,
        cwd: Path | None = None,
        counted: bool = False,
        end_at: str | None = None,
        timeout_s: float = 1800.0,
    ) -> None:
        """Run a command to its end, noting its output on `step`.

        Args:
            failed: what to say when it fails; its last lines are added.
            counted: each line it prints is one part of the step.
            end_at: ask it to end once it prints this; its exit code then says nothing.

        Raises:
            LocalStackError: it could not be started, it failed, or the fetch was cancelled.
        """
        self.go_on()
        last: deque[str] = deque(maxlen=12)
        asked_to_end = False
        try:
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        except OSError as error:
            raise LocalStackError(f"{failed}: {argv[0]}: {error.strerror}") from error
        self._running.add(process)
        if self._cancelled.is_set():
            process.kill()
        timer = threading.Timer(timeout_s, process.kill)
        timer.daemon = True
        timer.start()
        with process:
            for line in process.stdout or ():
                if line := line.strip():
                    last.append(line)
                    step.note(line)
                    if counted:
                        step.advance()
                    if end_at and end_at in line:
                        asked_to_end = True
                        process.terminate()
        timer.cancel()
        self._running.discard(process)
        self.go_on()
        if process.returncode != 0 and not asked_to_end:
            lines = "\n".join(f"  {line}" for line in last)
            raise LocalStackError(f"{failed} (exit code {process.returncode}):\n{lines}")


class _Unseen:
    """Shows nothing."""

    def step(self, what: str, total: int | None = None) -> Step:
        return self

    def advance(self) -> None: ...

    def note(self, text: str) -> None: ...

    def done(self) -> None: ...
