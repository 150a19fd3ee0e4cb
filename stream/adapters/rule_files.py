"""Rules from files: TOML, or JSON where the name ends in .json."""

from __future__ import annotations

from pathlib import Path

from stream.core.rules import AnyRule
from stream.core.rules.reading import read_json, read_toml
from stream.errors import InvalidRule


def read_rules(path: str | Path) -> list[AnyRule]:
    """Read the rules of a file; none where the path is empty.

    Raises:
        InvalidRule: the file cannot be read, or a rule in it; names place, reason and cure.
    """
    if not str(path):
        return []
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidRule(f"{path}: cannot be read ({error.strerror})") from None
    if Path(path).suffix == ".json":
        return read_json(content, str(path))
    try:
        return read_toml(content.decode(), str(path))
    except UnicodeDecodeError:
        raise InvalidRule(f"{path}: not UTF-8 text") from None
