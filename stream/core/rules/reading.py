"""Rules as people and programs write them: TOML files, and JSON messages of the topic `rules`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from stream.core.rules import AnyRule
from stream.errors import InvalidRule

KINDS = tuple(kind.__struct_config__.tag for kind in get_args(AnyRule))
"""The names of the kinds of rules."""
MAX_RULES = 1_000
"""Most rules of a shop; each costs a byte a product."""

_WRITTEN_SO = {
    "id": "expected up to 100 letters, digits, dots, dashes and underscores, a letter or digit first",
    "hours": "expected hours such as 08:00-12:30, or 22:00-06:00 for a night",
}
"""What is expected where a pattern does not match, by field."""

_encoder = msgspec.json.Encoder()


def read_toml(text: str, place: str) -> list[AnyRule]:
    """Read the rules of a TOML file: tables named `[[rule]]`.

    Args:
        place: what errors call the file.

    Raises:
        InvalidRule: names place, rule, field, reason and cure.
    """
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # also of a number with too many digits
        raise InvalidRule(f"{place}: not TOML ({error})") from None
    except RecursionError:
        raise InvalidRule(f"{place}: nested too deeply") from None
    if wrong := [name for name in document if name != "rule"]:
        raise InvalidRule(f"{place}: {wrong[0]}: no such table; each rule is a table [[rule]]")
    rules = document.get("rule", [])
    if not isinstance(rules, list):
        raise InvalidRule(f"{place}: rule: one table; write [[rule]], with two brackets")
    return _several(rules, place)


def read_json(text: bytes, place: str) -> list[AnyRule]:
    """Read one rule, or a list of rules, from JSON. Raises as `read_toml`."""
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRule(f"{place}: not JSON ({error})") from None
    return _several(content if isinstance(content, list) else [content], place)


def read_message(key: bytes | None, value: bytes) -> AnyRule:
    """Read a message of the topic `rules`. Raises as `read_toml`, also where the key is not the rule's id."""
    name = (key or b"").decode(errors="replace")
    rules = read_json(value, f"rule {name}")
    if len(rules) != 1 or rules[0].id != name:
        raise InvalidRule(f"rule {name}: id: differs from the key of the message")
    return rules[0]


def encode(rule: AnyRule) -> bytes:
    """Write a rule as the JSON value of its message."""
    return _encoder.encode(rule)


def shown(rule: AnyRule) -> dict[str, Any]:
    """A rule as JSON values, without what was left out."""
    written: dict[str, Any] = msgspec.json.decode(encode(rule))
    return written


def _several(contents: Sequence[Any], place: str) -> list[AnyRule]:
    rules: dict[str, AnyRule] = {}
    for number, content in enumerate(contents, start=1):
        rule = _one(content, place if len(contents) == 1 else f"{place}: rule {number}")
        if rule.id in rules:
            raise InvalidRule(f"{place}: rule {number}: id: {rule.id!r} names an earlier rule too")
        rules[rule.id] = rule
    if len(rules) > MAX_RULES:
        raise InvalidRule(f"{place}: {len(rules)} rules, at most {MAX_RULES} are taken")
    return list(rules.values())


def _one(content: Any, place: str) -> AnyRule:
    if not isinstance(content, dict):
        raise InvalidRule(f"{place}: not an object with the fields of a rule")
    if isinstance(content.get("id"), str):
        place = f"{place} ({content['id'][:100]})"
    kind = content.get("kind")
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        said = "missing" if kind is None else f"{str(kind)[:100]!r} is no kind of rule"
        cure = f"did you mean {near[0]}?" if near else f"one of {', '.join(KINDS)}"
        raise InvalidRule(f"{place}: kind: {said}; {cure}")
    try:
        rule: AnyRule = msgspec.convert(content, AnyRule, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidRule(f"{place}: {_reason(str(error))}") from None
    return rule


def _reason(text: str) -> str:
    """Turn msgspec's sentence ("Expected `str`, got `int` - at `$.item_id`") into field: reason."""
    reason, _, path = text.partition(" - at `$")
    field = path.rstrip("`").lstrip(".")
    if reason.startswith("Object missing required field"):
        missing = reason.split("`")[1]
        return f"{field}.{missing}: missing" if field else f"{missing}: missing"
    if reason.startswith("Object contains unknown field"):
        unknown = reason.split("`")[1]
        return f"{field}.{unknown}: no such field" if field else f"{unknown}: no such field"
    if reason.startswith("Expected `str` matching regex"):
        name = field.rpartition(".")[2].partition("[")[0]
        reason = _WRITTEN_SO.get(name, reason)
    reason = reason.replace("`", "")
    return f"{field}: {reason}" if field else reason
