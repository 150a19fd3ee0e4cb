"""Alerts sound when they should and lead to a runbook; dashboards and alerts speak of metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.local.stack import Stack
from stream.telemetry.metrics import FRESHNESS_BUCKETS_S, Telemetry, TrainerTelemetry

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
GROUPS = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"] for rule in RULES if "record" in rule}
ADDED_BY_PROMETHEUS = {"job", "instance", "le", "alertname", "alertstate"}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; without one the test is skipped."""
    beside = Path(sys.executable).with_name("promtool")
    program = shutil.which("promtool") or (str(beside) if beside.exists() else None)
    if program is None:
        pytest.skip("promtool is not there: `scripts/promtool` fetches it")
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )


def panels(dashboard: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(dashboard.read_text())["panels"]
    return found


def expressions(dashboard: Path) -> list[str]:
    """What a dashboard asks, with Grafana's own intervals filled in."""
    asked = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    return [re.sub(r"\$__(rate_interval|range)", "5m", expression) for expression in asked]


def everything_asked() -> list[str]:
    return [rule["expr"] for rule in RULES] + [one for board in DASHBOARDS for one in expressions(board)]


def labels_by_sample() -> dict[str, set[str]]:
    """The labels of every sample of a worker and of a trainer."""
    return {
        sample: set(collector._labelnames)  # type: ignore[attr-defined]
        for telemetry in (Telemetry(), TrainerTelemetry())
        for sample, collector in telemetry.registry._names_to_collectors.items()
    }


def test_every_alert_sounds_when_it_should_and_only_then() -> None:
    tried = promtool("test", "rules", PROMETHEUS / "rules.test.yml")
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_of_every_alert_it_is_tried_that_it_sounds_and_that_it_keeps_silent() -> None:
    tests = yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]
    tried = [one for test in tests for one in test["alert_rule_test"]]
    sounding = {one["alertname"] for one in tried if one.get("exp_alerts")}
    assert sounding == ALERTS.keys()
    # Where one series makes it sound, another one of the same test does not.
    silent = {one["alertname"] for one in tried if not one.get("exp_alerts")}
    assert silent >= ALERTS.keys() - {"StreamrecNotReady", "StreamrecDeadLettersRise"}


def test_prometheus_takes_the_settings_and_the_rules() -> None:
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_leads_to_a_runbook_that_speaks_of_it(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    runbook = ROOT / rule["annotations"]["runbook_url"]
    assert runbook.parent == ROOT / "docs" / "runbooks"
    assert f"`{alert}`" in runbook.read_text()
    assert f"| `{alert}` |" in (ROOT / "docs" / "metrics.md").read_text()


def test_every_metric_that_is_asked_for_exists_with_the_labels_that_are_asked_for() -> None:
    known = labels_by_sample()
    for expression in everything_asked():
        named = re.findall(r"\b((?:streamrec|nv)[_:][a-z0-9_:]+)(?:\{([^}]*)\})?", expression)
        for name, matchers in named:
            if ":" in name:
                assert name in RECORDS, expression
            elif not name.startswith("nv_"):
                asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
                assert name in known, expression
                assert asked <= known[name] | ADDED_BY_PROMETHEUS, expression
        if [name for name, _ in named if name.startswith("streamrec_")]:
            grouped = re.findall(r"\bby \(([^)]*)\)", expression)
            by = {label.strip() for labels in grouped for label in labels.split(",")}
            known_here = set().union(*(known.get(name, {"model"}) for name, _ in named))
            assert by <= known_here | ADDED_BY_PROMETHEUS, expression


def test_triton_has_the_metrics_that_are_asked_for(stack: Stack) -> None:
    with urllib.request.urlopen(stack.endpoints.metrics, timeout=60) as answer:
        told = set(re.findall(r"^(nv_\w+)", answer.read().decode(), re.MULTILINE))
    asked = {name for expression in everything_asked() for name in re.findall(r"\bnv_\w+", expression)}
    assert asked <= told


def test_every_metric_of_a_worker_and_of_a_trainer_is_on_a_dashboard() -> None:
    asked = " ".join(expression for board in DASHBOARDS for expression in expressions(board))
    for telemetry in (Telemetry(), TrainerTelemetry()):
        for family in telemetry.registry.collect():
            assert re.search(rf"\b{family.name}(_total|_bucket|_sum|_count)?\b", asked), family.name


def test_the_lateness_that_is_promised_is_a_bound_of_the_histogram_and_what_load_tests_judge_by() -> None:
    bounds = set(
        re.findall(r'streamrec_freshness_seconds_bucket\{le="([^"]+)"\}', " ".join(everything_asked()))
    )
    (promised_s,) = map(float, bounds)
    assert promised_s in FRESHNESS_BUCKETS_S
    judged_by = tomllib.loads((ROOT / "load_tests" / "slo.toml").read_text())
    assert promised_s * 1000 == judged_by["freshness_p99_ms"]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_understands_what_a_dashboard_asks(dashboard: Path, tmp_path: Path) -> None:
    rules = [{"record": f"asked:{n}", "expr": asked} for n, asked in enumerate(expressions(dashboard))]
    file = tmp_path / "asked.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": dashboard.stem, "rules": rules}]}))
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_dashboards_are_told_apart_read_from_the_provisioned_source_and_lie_where_grafana_looks() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "streamrec.yml").read_text())["providers"]
    copied = re.findall(r"^COPY (\S+) (\S+)$", (provisioning.parent / "Dockerfile").read_text(), re.MULTILINE)
    assert ("deploy/grafana/dashboards", provider["options"]["path"]) in copied
    assert ("deploy/grafana/provisioning", "/etc/grafana/provisioning") in copied
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert [path.stem for path in DASHBOARDS] == ["freshness", "models", "shop", "stream"]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards)
    for path in DASHBOARDS:
        shown = panels(path)
        assert len({panel["id"] for panel in shown}) == len(shown)
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in shown]
        assert len(set(places)) == len(shown)
        for panel in shown:
            assert panel["datasource"]["uid"] == source["uid"]
            assert all(target["datasource"]["uid"] == source["uid"] for target in panel["targets"])
