"""Bring attributes into a form that people read: `cable length: 5`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from model_factory.preparation.cleaning import clean

MAX_VALUE_CHARS = 300
MAX_VALUES = 8
"""Of a list in one value, such as all printers that a toner fits."""

UNITS = {
    "cable length": "m",
    "internal memory": "gb",
    "maximum internal memory": "gb",
    "total storage capacity": "gb",
    "hdd capacity": "gb",
    "capacity": "gb",
    "memory clock speed": "mhz",
    "display diagonal": "inch",
    "screen size": "inch",
    "processor frequency": "ghz",
    "output power": "w",
    "megapixel": "mp",
}
"""Units in which Open Icecat gives the numbers of these attributes."""

_PREFIX = re.compile("^[tnb]_(?=.)")
_NOTE = re.compile("__(.+?)_(?=_|$)")
_LOGISTICS = re.compile(
    r"\b(?:pallets?|package|packaging|master|outer|carton|harmonized|last change|ark id|weight|width|height"
    r"|depth|temperature|humidity|altitude|certification|country of origin|oem code|upc|gtin)\b"
)
_NOTHING = {"", "n", "no", "none", "not available", "not supported", "n/a", "-", "false"}


def normalise(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Turn raw attributes into readable names and values.

    `t_`, `n_` and `b_` (text, number, yes or no) fall off the names. Left out is what no shopper asks for
    (measures of the parcel, customs codes), what is absent ("N", false), and values that are not single.
    """
    readable: dict[str, str] = {}
    for raw_name, raw_value in attributes.items():
        name = readable_name(str(raw_name))
        value = _readable_value(raw_value)
        if name and not _LOGISTICS.search(name) and value.casefold() not in _NOTHING:
            readable.setdefault(name, value)
    return readable


@lru_cache(maxsize=20_000)
def readable_name(raw: str) -> str:
    """`n_print_speed__black__a4_` is `print speed (black) a4`."""
    name = _NOTE.sub(r" (\1) ", _PREFIX.sub("", raw.strip().casefold()))
    return " ".join(clean(name.replace("_", " ")).replace("( ", "(").replace(" )", ")").split())


def with_unit(name: str, value: str) -> str:
    """`cable length`, `5` is `5m`; a value whose unit is not known stays as it is."""
    unit = UNITS.get(name)
    return f"{value}{unit}" if unit and value.replace(".", "", 1).isdigit() else value


def values_of(value: str) -> list[str]:
    """Split a list within a value at its commas."""
    return [part.strip() for part in value.split(",") if part.strip()]


def _readable_value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int | str):
        parts = values_of(clean(str(value).replace("\\n", ",").replace("\n", ",")))
        return ", ".join(parts[:MAX_VALUES])[:MAX_VALUE_CHARS].strip()
    return ""
