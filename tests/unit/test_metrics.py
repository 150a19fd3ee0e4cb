"""docs/metrics.md says what every metric is, and no label can have values without bound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream.telemetry.metrics import RULES_TOLD_APART, Few, ProcessTelemetry, Telemetry, TrainerTelemetry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
OF_PEOPLE_AND_THINGS = {"user", "user_id", "item", "item_id", "event", "event_id", "query", "session", "key"}


def _table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    below = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def _metrics(telemetry: ProcessTelemetry) -> list[list[str]]:
    """The same, of the code."""
    collectors = telemetry.registry._names_to_collectors
    return [
        [
            f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
            family.type,
            ", ".join(f"`{label}`" for label in _labels(collectors[family.name])),
            family.documentation,
        ]
        for family in telemetry.registry.collect()
    ]


def _labels(collector: object) -> tuple[str, ...]:
    return collector._labelnames  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("heading", "telemetry"), [("Of a worker", Telemetry()), ("Of a trainer", TrainerTelemetry())]
)
def test_the_page_names_every_metric_with_type_labels_and_meaning_and_no_other(
    heading: str, telemetry: ProcessTelemetry
) -> None:
    assert _table(heading) == _metrics(telemetry)


def test_the_page_says_of_every_label_which_values_it_has() -> None:
    used = {
        f"`{label}`"
        for telemetry in (Telemetry(), TrainerTelemetry())
        for collector in set(telemetry.registry._names_to_collectors.values())
        for label in _labels(collector)
    }
    assert {label for label, _ in _table("Labels")} == used
    assert not {label.strip("`") for label in used} & OF_PEOPLE_AND_THINGS


def test_a_label_that_others_choose_has_so_many_values_and_no_more() -> None:
    few = Few(3)
    assert [few.label(value) for value in "abcabcde"] == [*"abcabc", "other", "other"]
    telemetry = Telemetry()
    for number in range(10 * RULES_TOLD_APART):
        telemetry.count_rule_warning(f"rule-{number}")
    [family] = telemetry.rule_warnings.collect()
    counts = {
        sample.labels["rule"]: sample.value for sample in family.samples if sample.name.endswith("_total")
    }
    assert len(counts) == RULES_TOLD_APART + 1
    assert counts["other"] == 9 * RULES_TOLD_APART


def test_every_metric_that_a_text_speaks_of_exists() -> None:
    known = {
        sample
        for telemetry in (Telemetry(), TrainerTelemetry())
        for sample in telemetry.registry._names_to_collectors
    }
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"streamrec_[a-z0-9_]+[a-z0-9]", page.read_text()):
            assert name in known or f"{name}_total" in known, f"{page.name}: {name}"
