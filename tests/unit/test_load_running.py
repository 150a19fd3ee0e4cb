"""Generators are started with the settings of who starts them, and as many as the load takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from traffic.running import RATE_OF_ONE, Plan, enough_processes, generators_environment
from traffic.watching import machine_cores

from stream.config import load_config

SECURED = {
    "STREAMREC_KAFKA__BOOTSTRAP": "kafka-1:9093,kafka-2:9093",
    "STREAMREC_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "STREAMREC_KAFKA__USERNAME": "load",
    "STREAMREC_KAFKA__PASSWORD": "hunter2",
    "STREAMREC_TOPICS__CLICKS": "clicks-of-load",
}


def test_a_generator_loads_the_same_settings_with_users_and_passwords_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "streamrec.toml").write_text('[topics]\nsearches = "of-another-file"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMREC_TOPICS__ITEMS", "of-the-shell")
    config = load_config(env={**SECURED, "STREAMREC_CONFIG": "/dev/null"})
    folder = tmp_path / "folder"
    folder.mkdir()
    environment = generators_environment(config, folder)
    assert load_config(env=environment) == config
    assert load_config(env=environment).kafka.password.reveal() == "hunter2"


def test_as_many_generators_are_started_as_the_peak_of_the_load_takes_and_there_are_cores() -> None:
    assert enough_processes(Plan("steady", rate=10.0, seconds=60.0)) == 1
    wanted = min(5, machine_cores())
    assert enough_processes(Plan("burst", rate=RATE_OF_ONE * 1.0, seconds=60.0)) == wanted
