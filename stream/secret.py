"""A value that is never shown: passwords, and whatever else is nobody's to read."""

from __future__ import annotations

HIDDEN = "***"


class Secret:
    """Text that prints, logs and formats as `***`; `reveal` gives it to whom it is for."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return HIDDEN if self._text else ""

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not written down")
