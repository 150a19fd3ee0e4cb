"""Hostile inputs from a seed: damaged bytes, and JSON whose fields hold what nobody expects there."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

PIECES = (
    *(
        b'"',
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-0",
        b"0.1e-9",
    ),
    *(
        b"9" * 5_000,
        b"[" * 2_000,
        b'{"a":' * 2_000,
        b"\\ud800",
        b"\\u0000",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\x00",
    ),
    *(
        b"\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc7\xff",
        b"\x81\x81\x81",
        b"\n",
        b"\\",
    ),
)
"""What breaks readers of JSON, msgpack and text."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 10**18, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, -(10**400)),
    *(
        1e308,
        -1e308,
        1e-320,
        float("nan"),
        float("inf"),
        1_780_000_000_000,
        1_780_000_000,
        99_999_999_999_999,
    ),
    *(
        "",
        " ",
        "\x00",
        "a\x00b",
        "\ud800",
        "\U0001f600",
        "é" * 300,
        "x" * 300,
        "x" * 3_000,
        "ann",
        "mug",
        "../..",
    ),
    *(
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:60-23:59",
    ),
    *(
        "1970-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "+002026-01-01T00:00:00Z",
        "12:00",
    ),
    *([], {}, [[]], [None], [{}], ["a"], ["a"] * 1_100, [{"item_id": "z"}] * 510, {"segment": ["x"]}),
    *(
        [{"item_id": "z", "quantity": 0}],
        [{"item_id": "z", "price": 1e400}],
        {"a": {"b": [{}]}},
        "view_item_list",
    ),
)
"""What nobody expects in a field."""

KEYS = (
    b"ann",
    b"ann",
    b"ann",
    b"mug",
    b"mug",
    b"mug",
    None,
    b"",
    b"\xff",
    b"\x00",
    b"\xed\xa0\x80",
    b"k" * 300,
)


def damaged(random_: random.Random, data: bytes) -> bytes:
    """Bytes with a few places changed, left out, cut off, doubled or put in."""
    made = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(made) + 1)
        match random_.randrange(6):
            case 0 if at < len(made):
                made[at] = random_.randrange(256)
            case 1:
                del made[at : at + random_.randint(1, 8)]
            case 2:
                made[at:at] = random_.randbytes(random_.randint(1, 6))
            case 3:
                made[at:at] = random_.choice(PIECES)
            case 4:
                made[at:at] = made[at : at + random_.randint(1, 40)]
            case _:
                del made[at:]
    return bytes(made)


def odd_json(random_: random.Random, fields: Mapping[str, Any]) -> bytes:
    """A JSON object with a few fields left out, or holding what nobody expects there."""
    made = dict(fields)
    for _ in range(random_.randint(1, 3)):
        name = random_.choice([*fields, "unknown"])
        if random_.random() < 0.2:
            made.pop(name, None)
        else:
            made[name] = random_.choice(VALUES)
    return json.dumps(made).encode()


def hostile(random_: random.Random, bases: Sequence[Mapping[str, Any]]) -> bytes | None:
    """A message that is nearly one of the good ones, or nothing like it."""
    chosen = random_.random()
    if chosen < 0.02:
        return random_.choice((None, b"", b"[" * 100_000, b'{"a":' * 5_000, b"null", b"1", b'"'))
    if chosen < 0.05:
        return random_.randbytes(random_.randint(0, 60))
    base = random_.choice(bases)
    if chosen < 0.5:
        made = odd_json(random_, base)
        return damaged(random_, made) if chosen < 0.2 else made
    return damaged(random_, json.dumps(base).encode())
