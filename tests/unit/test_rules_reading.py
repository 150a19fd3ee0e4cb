"""Rules as they are written: read with clear errors, and written as they were read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from typer.testing import CliRunner

from stream.adapters.rule_files import read_rules
from stream.cli.root import app
from stream.core.items import Item, kept_attributes, margin_of
from stream.core.rules import AnyRule
from stream.core.rules.matching import Match
from stream.core.rules.reading import KINDS, encode, read_json, read_message, read_toml
from stream.core.rules.schedule import Schedule
from stream.errors import InvalidRule

DOCS = Path(__file__).parents[2] / "docs"

ONE_OF_EACH: dict[str, dict[str, Any]] = {
    "exclude": {"where": {"categories": ["Clearance"]}, "audience": {"segments": ["vip"]}},
    "pin": {"item_id": "85048", "position": 1, "placements": ["home"]},
    "boost": {"where": {"brands": ["Acme"], "max_price": 20}, "strength": 0.7},
    "bury": {"where": {"attributes": {"stock": ["slow"]}}},
    "cap": {"limit": 3, "by": "brand"},
    "min_quality": {"quality": 0.7},
    "min_margin": {"margin": 0.1, "where": {"categories": ["Home > Lamps"]}},
    "price_range": {"min": 1, "max": 500, "audience": {"max_purchases": 0}},
    "bought": {"days": 21, "schedule": {"days": ["mon"], "from": "2026-03-01T00:00:00+01:00"}},
}


def written(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": f"one-{kind}", "kind": kind, **ONE_OF_EACH[kind], **more}


def test_there_is_an_example_of_every_kind() -> None:
    assert set(ONE_OF_EACH) == set(KINDS) == {kind.__struct_config__.tag for kind in get_args(AnyRule)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_is_written_as_it_was_read_and_fits_its_schema(kind: str) -> None:
    [rule] = read_json(json.dumps(written(kind)).encode(), "here")
    again = encode(rule)
    assert read_message(f"one-{kind}".encode(), again) == rule
    jsonschema.validate(json.loads(again), json.loads((DOCS / "schema" / "rule.json").read_text()))


def test_the_rules_of_a_toml_file_are_those_of_json(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nid = "one-cap"\nkind = "cap"\nlimit = 3\nby = "brand"\n')
    assert read_rules(file) == read_json(json.dumps(written("cap")).encode(), "here")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": "x", "kind": "exlude"}, "(x): kind: 'exlude' is no kind of rule; did you mean exclude?"),
        ({"id": "x"}, "(x): kind: missing; one of exclude, pin"),
        (written("pin", position=0), "(one-pin): position: "),
        ({"id": "x", "kind": "pin", "item_id": "a"}, "(x): position: missing"),
        ({"id": "x", "kind": "exclude"}, "(x): where: names no items"),
        (written("pin", where={"brands": ["b"]}), "where: a pin is about one item, which item_id names"),
        (written("cap", wheer={}), "(one-cap): wheer: no such field"),
        (written("cap", where={"brand": ["b"]}), "where.brand: no such field"),
        (written("cap", limit="3"), "limit: Expected int, got str"),
        (written("cap", id="no spaces"), "id: expected up to 100 letters, digits"),
        (
            written("cap", schedule={"hours": ["9-10"]}),
            "schedule.hours[0]: expected hours such as 08:00-12:30",
        ),
        (written("cap", schedule={"time_zone": "Mars"}), "time_zone 'Mars' is no name of the IANA database"),
        (written("cap", schedule={"days": ["monday"]}), "schedule.days[0]: "),
        (
            written("cap", schedule={"from": "2026-03-02T00:00:00", "until": "2026-03-01T00:00:00Z"}),
            "from is not before until",
        ),
        ({"id": "x", "kind": "price_range"}, "min and max are both missing"),
        (written("price_range", min=9, max=1), "min 9 is above max 1"),
        (written("boost", strength=-1), "strength: Expected float > 0"),
        (7, "not an object"),
        ([written("cap"), written("cap")], "rule 2: id: 'one-cap' names an earlier rule too"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_with_its_place(wrong: Any, said: str) -> None:
    with pytest.raises(InvalidRule, match=r"^here") as error:
        read_json(json.dumps(wrong).encode(), "here")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]", "here: not TOML"),
        (f"a = {'[' * 10_000}", "here: nested too deeply"),
        (f"a = {'9' * 5_000}", "here: not TOML"),
        ('[rule]\nid = "x"', "write [[rule]], with two brackets"),
        ("[[rules]]", "rules: no such table"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, said: str) -> None:
    with pytest.raises(InvalidRule) as error:
        read_toml(text, "here")
    assert said in str(error.value)


def test_a_message_whose_key_is_not_the_rules_id_is_refused() -> None:
    with pytest.raises(InvalidRule, match="differs from the key"):
        read_message(b"other", json.dumps(written("cap")).encode())


def test_a_file_is_checked_without_a_broker(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([written(kind) for kind in KINDS]))
    checked = CliRunner().invoke(app, ["rules", "check", str(file), "--json"])
    assert checked.exit_code == 0
    assert [rule["kind"] for rule in json.loads(checked.stdout)] == list(KINDS)


HOUR_MS = 3_600_000
MONDAY_MS = 1_790_000_000_000 - 1_790_000_000_000 % (24 * HOUR_MS)  # 2026-09-21, a Monday


@pytest.mark.parametrize(
    ("schedule", "hours", "holds"),
    [
        ({}, 3, True),
        ({"days": ["mon"]}, 23.5, True),
        ({"days": ["mon"]}, 24.5, False),
        ({"days": ["tue"], "time_zone": "Europe/Berlin"}, 22.5, True),
        ({"hours": ["08:00-12:30"]}, 12.49, True),
        ({"hours": ["08:00-12:30"]}, 12.5, False),
        ({"hours": ["22:00-06:00"]}, 5.9, True),
        ({"hours": ["22:00-06:00"]}, 6, False),
        ({"hours": ["22:00-06:00"], "days": ["mon"]}, 5, False),
        ({"hours": ["22:00-06:00"], "days": ["mon"]}, 29, True),
        ({"from": "2026-09-21T02:00:00", "time_zone": "Europe/Berlin"}, 0, True),
        ({"from": "2026-09-21T02:00:01+02:00"}, 0, False),
        ({"until": "2026-09-21T00:00:00Z"}, 0, False),
    ],
)
def test_a_schedule_says_when_a_rule_holds(schedule: dict[str, Any], hours: float, holds: bool) -> None:
    [rule] = read_json(json.dumps(written("cap", schedule=schedule)).encode(), "here")
    assert isinstance(rule.schedule, Schedule)
    assert rule.schedule.holds(int(MONDAY_MS + hours * HOUR_MS)) is holds


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        (Match(), True),
        (Match(item_ids=("a", "mug")), True),
        (Match(brands=("ACME",)), True),
        (Match(brands=("Acme",), item_ids=("a",)), False),
        (Match(categories=("Home",)), True),
        (Match(categories=("Home > Mugs",)), True),
        (Match(categories=("Hom",)), False),
        (Match(min_price=5.0, max_price=5.0), True),
        (Match(max_price=4.99), False),
        (Match(attributes={"colour": ("Red",)}), True),
        (Match(attributes={"colour": ("red",), "size": ("l",)}), False),
    ],
)
def test_a_match_says_which_items_are_meant(match: Match, holds: bool) -> None:
    mug = Item("mug", "Mug", category="Home > Mugs", brand="Acme", price=5.0, attributes={"colour": "red"})
    assert match.holds(mug) is holds


def test_of_an_items_attributes_short_plain_ones_are_kept() -> None:
    given = {"a": "x", "b": 2, "c": 0.5, "d": True, "e": None, "f": ["x"], "g": "x" * 101, "h": ""}
    assert kept_attributes(given) == {"a": "x", "b": "2", "c": "0.5", "d": "true"}
    assert len(kept_attributes({str(number): number for number in range(50)})) == 20
    assert (margin_of({"margin": 0.25}), margin_of({"margin": "much"}), margin_of(None)) == (0.25, None, None)
