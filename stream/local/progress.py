"""What is told while something is fetched or built; the command line draws it as bars."""

from typing import Protocol


class Step(Protocol):
    """One thing under way."""

    def advance(self) -> None:
        """Count one more part of a step that has a total."""

    def note(self, text: str) -> None:
        """Show what the step is doing at the moment."""

    def done(self) -> None:
        """End the step."""


class Progress(Protocol):
    """Where steps are announced; called from several threads."""

    def step(self, what: str, total: int | None = None) -> Step:
        """Begin a step of `total` parts, or of unknown length."""


class _Nothing:
    def advance(self) -> None: ...

    def note(self, text: str) -> None: ...

    def done(self) -> None: ...


class Quiet:
    """Tells nothing."""

    def step(self, what: str, total: int | None = None) -> Step:
        return _Nothing()
