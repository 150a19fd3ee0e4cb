"""The highest rate is found where it is, also where chance decides probes; only named topics are used."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from traffic.saturation import Found, seek
from traffic.slo import DEFAULT, Slo, load_slo

from stream.errors import ConfigError

ROOT = Path(__file__).parents[2]


def found(limit: float, wrong: float = 0.0, seed: int = 1) -> tuple[Found, list[float]]:
    """Search for a limit with probes of which a share tells the opposite."""
    draw, asked = random.Random(seed), []

    async def probe(rate: float) -> bool:
        asked.append(rate)
        return (rate <= limit) != (draw.random() < wrong)

    return asyncio.run(seek(probe, 5.0, 2_000.0, precision=0.1, most_probes=25)), asked


@pytest.mark.parametrize("limit", [7.0, 60.0, 900.0])
def test_the_limit_is_found_within_the_precision(limit: float) -> None:
    highest, bounded = found(limit)[0]
    assert bounded
    assert highest.value == pytest.approx(limit, rel=0.15)
    assert highest.low is not None
    assert highest.high is not None
    assert highest.low <= limit <= highest.high


def test_bounds_hold_the_limit_as_often_as_they_say_where_one_probe_in_twenty_is_wrong() -> None:
    held = 0
    for seed in range(40):
        highest = found(120.0, wrong=0.05, seed=seed)[0].highest
        held += (highest.low or 0.0) <= 120.0 <= (highest.high or 0.0)
    assert held >= 34


def test_rates_are_raised_step_by_step_so_that_an_engine_is_not_buried_at_once() -> None:
    asked = found(60.0)[1]
    assert asked[:5] == [5.0, 10.0, 20.0, 40.0, 80.0]
    assert max(asked) <= 160.0


@pytest.mark.parametrize("limit", [1.0, 10_000.0])
def test_a_limit_beyond_the_search_is_not_made_up(limit: float) -> None:
    assert not found(limit)[0].bounded


def test_the_shipped_limits_are_read_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    assert load_slo(DEFAULT).latency_p99_ms
    (tmp_path / "slo.toml").write_text("latency_p98_ms = 3\n")
    with pytest.raises(ConfigError, match=r"latency_p98_ms.*latency_p99_ms"):
        load_slo(tmp_path / "slo.toml")
    assert Slo().lag_slope is None


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [(["run", "--topics", "clicks"], "searches"), (["saturate", "--topics", "clicks,searches", "--profile",
      "catalogue-churn"], "items")],
)  # fmt: skip
def test_topics_that_were_not_named_are_refused_before_anything_is_sent(
    arguments: list[str], missing: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMREC_")}
    command = [sys.executable, "-m", "load_tests", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{missing} may not be published to" in " ".join(done.stderr.split())
