"""What came of lists, counted once and with the intervals that the formulas give."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest
from attributions import DAY_MS, MADE_MS, record, tally
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stream.cli.root import app
from stream.core.events import Attribution
from stream.evaluation.rates import NONE, Tally, difference, wilson


def test_a_place_counts_once_however_often_it_was_shown_and_clicked() -> None:
    found = tally(
        record("impression", [1, 2]),
        record("impression", [2, 3], number=1),
        record("click", [2]),
        record("click", [2], number=1),
        record("purchase", [2], value=7.5),
    ).summary()
    assert (found.total.shown, found.total.click.hits, found.total.purchase.hits) == (3, 1, 1)
    assert found.value == {"EUR": 7.5}
    assert [(group.name, group.shown, group.click.hits) for group in found.groups["position"]] == [
        *(("1", 1, 0), ("2", 1, 1), ("3", 1, 0))
    ]
    assert {group.name: group.click.hits for group in found.groups["source"]} == {"session": 0, "new": 1}


def test_a_record_that_comes_again_counts_once() -> None:
    one = record("purchase", [1], value=5.0)
    found = tally(record("impression", [1]), one, one).summary()
    assert (found.records, found.repeated, found.value) == (2, 1, {"EUR": 5.0})


def test_what_no_impression_told_of_is_counted_apart() -> None:
    found = tally(record("impression", [1]), record("click", [1, 2]), record("cart", [3])).summary()
    assert (found.total.shown, found.total.click.hits) == (1, 1)
    assert found.not_shown == {"click": 1, "cart": 1, "purchase": 0}


def test_what_machines_do_is_no_part_of_the_rates() -> None:
    found = tally(
        record("impression", [1]),
        record("impression", [2], made="r2", automated=True),
        record("click", [1], number=9, automated=True),
    ).summary()
    assert (found.automated, found.total.shown, found.total.click.hits) == (2, 1, 0)


def test_lists_are_chosen_by_when_they_were_made_and_for_which_placement() -> None:
    records = [
        record("impression", [1], made="a"),
        record("impression", [1], made="b", at_ms=MADE_MS + DAY_MS),
        record("impression", [1], made="c", at_ms=MADE_MS + 2 * DAY_MS, placement="cart"),
    ]
    assert tally(*records, from_ms=MADE_MS + 1).summary().lists == 2
    assert tally(*records, to_ms=MADE_MS + DAY_MS).summary().lists == 1
    assert tally(*records, placement="cart").summary().lists == 1
    assert [group.name for group in tally(*records).summary().groups["day"]] == [
        *("2026-09-21", "2026-09-22", "2026-09-23")
    ]


def test_versions_are_set_against_the_one_most_often_shown() -> None:
    records = [
        record("impression", [1, 2, 3], made="a"),
        record("impression", [1], made="b", reranker="2"),
        record("click", [1], made="b", reranker="2"),
        record("impression", [1], made="c", reranker=""),
    ]
    found = tally(*records).summary()
    assert [group.name for group in found.groups["reranker"]] == ["1", NONE, "2"]
    assert [(one.of, one.less, one.value) for one in found.differences["reranker"]] == [
        *((NONE, "1", 0.0), ("2", "1", 1.0))
    ]


def test_nothing_read_gives_a_summary_of_nothing() -> None:
    found = Tally().summary()
    assert (found.lists, found.total.shown, found.total.click.value) == (0, 0, None)


@given(st.lists(st.integers(0, 9), unique=True, max_size=10), st.randoms(use_true_random=False))
def test_the_order_of_the_records_changes_nothing(picked: list[int], shuffle: random.Random) -> None:
    records = [
        record(outcome, [1 + number % 4], made=f"r{number % 3}", number=number)
        for number, outcome in enumerate(["impression", "click", "cart", "purchase", "impression"] * 2)
        if number in picked
    ]
    shuffled = list(records)
    shuffle.shuffle(shuffled)
    assert tally(*shuffled).summary() == tally(*records).summary()


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    rate = wilson(15, 50)
    assert (rate.low, rate.high) == (pytest.approx(0.1910, abs=5e-5), pytest.approx(0.4375, abs=5e-5))
    assert (wilson(0, 10).low, wilson(10, 10).high) == (0.0, pytest.approx(1.0))


def test_newcombes_interval_is_that_of_his_paper() -> None:
    """Newcombe 1998, table II, example (a), 56/70 - 48/80: 0.0524 to 0.3339."""
    found = tally(
        *[record("impression", [1], made=f"a{n}") for n in range(70)],
        *[record("click", [1], made=f"a{n}") for n in range(56)],
        *[record("impression", [1], made=f"b{n}", reranker="2") for n in range(80)],
        *[record("click", [1], made=f"b{n}", reranker="2") for n in range(48)],
    ).summary()
    two, one = found.groups["reranker"]
    compared = difference(one, two)
    assert compared is not None
    assert (compared.value, compared.low, compared.high) == (
        pytest.approx(0.2),
        pytest.approx(0.0524, abs=5e-5),
        pytest.approx(0.3339, abs=5e-5),
    )


def test_what_a_place_does_is_told_apart_from_how_good_its_items_are() -> None:
    """Better items stand higher and higher places are seen more: rates fall faster than sight does."""
    chance = random.Random(7)
    sight = [1.0, 0.7, 0.5, 0.4]
    made = Tally()
    for number in range(6_000):
        # Item n is liked less with n; neighbours often swap.
        order = sorted(range(4), key=lambda item: item + chance.uniform(0, 2.5))
        liked = [sight[place] * (0.8 - 0.15 * item) for place, item in enumerate(order)]
        names = [f"item-{item}" for item in order]
        made.add(record("impression", [1, 2, 3, 4], made=f"r{number}", names=names))
        clicked = [rank for rank in range(1, 5) if chance.random() < liked[rank - 1]]
        made.add(record("click", clicked, made=f"r{number}", names=[names[rank - 1] for rank in clicked]))
    found = made.summary()
    assert [one.relative for one in found.sight] == pytest.approx(sight, abs=0.06)
    first, *_, last = found.groups["position"]
    assert first.click.value is not None
    assert last.click.value is not None
    assert last.click.value / first.click.value < 0.3


def test_where_no_click_tells_of_a_place_nothing_is_said_of_it() -> None:
    found = tally(record("impression", [1, 2, 3]), record("click", [1]), record("click", [3], number=1))
    assert [one.relative for one in found.summary().sight] == [1.0, None, None]


def written(folder: Path, *records: Attribution) -> Path:
    path = folder / "attributions.jsonl"
    path.write_bytes(b"\n".join(msgspec.json.encode(one) for one in records))
    return path


def test_the_report_gives_figures_for_programs(tmp_path: Path) -> None:
    path = written(tmp_path, record("impression", [1, 2]), record("click", [2]))
    done = CliRunner().invoke(app, ["report", str(path), "--json", "-"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["total"]["click"]["hits"] == 1
    assert figures["groups"]["position"][1]["click"]["value"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "tomorrow"], "is not a time"),
        (["--out", "missing/page.html"], "No such file"),
        (["--json", "missing/figures.json"], "No such file"),
    ],
)
def test_a_mistake_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, record("impression", [1]))
    done = CliRunner().invoke(app, ["report", str(path), *arguments])
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.split())


def test_a_line_that_is_no_attribution_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, record("impression", [1]))
    path.write_bytes(path.read_bytes() + b'\n{"user_id": 5}\n')
    done = CliRunner().invoke(app, ["report", str(path)])
    assert done.exit_code == 2
    assert "line 2" in done.stderr
