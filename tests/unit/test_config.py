"""Settings: defaults, file, environment, where each came from, and errors that name the cure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream.config import Config, environment_of, load_config, load_with_origin, mask_secrets
from stream.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _error(text: str | None = None, **env: str) -> str:
    path = None
    if text is not None:
        path = Path("mine.toml")
        path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_config(path, env)
    return str(raised.value)


def test_without_file_and_environment_every_value_is_the_default() -> None:
    loaded = load_with_origin(env={})
    assert loaded.config == Config()
    assert {setting.origin for setting in loaded.settings} == {"default"}


def test_every_setting_has_a_description() -> None:
    assert [s.key for s in load_with_origin(env={}).settings if not s.description] == []


def test_the_environment_wins_over_the_file_and_the_file_over_the_default() -> None:
    Path("a.toml").write_text('[kafka]\nbootstrap = "one:1"\ngroup = "g"\n[policy]\nlist_length = 7\n')
    loaded = load_with_origin("a.toml", {"STREAMREC_KAFKA__BOOTSTRAP": "two:2"})
    by_key = {setting.key: setting for setting in loaded.settings}
    assert by_key["kafka.bootstrap"][1:3] == ("two:2", "environment STREAMREC_KAFKA__BOOTSTRAP")
    assert by_key["kafka.group"][1:3] == ("g", "file a.toml")
    assert by_key["kafka.partitions"][1:3] == (8, "default")
    assert loaded.config.policy.list_length == 7


def test_the_file_is_the_given_one_else_the_variable_else_the_working_directory() -> None:
    for name in ("given", "variable", "streamrec"):
        Path(f"{name}.toml").write_text(f'[kafka]\ngroup = "{name}"\n')
    env = {"STREAMREC_CONFIG": "variable.toml"}
    assert load_config("given.toml", env).kafka.group == "given"
    assert load_config(None, env).kafka.group == "variable"
    assert load_config(None, {}).kafka.group == "streamrec"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_config(env={"STREAMREC_KAFKA__PARTITIONS": ""}) == Config()


def test_variables_that_are_no_settings_are_let_be() -> None:
    assert load_config(env={"STREAMREC_HOME": "/x", "STREAMREC_CONFIG": "", "HOME": "/y"}) == Config()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[kafka]\nbootstap = 'x'\n", "mine.toml: kafka.bootstap: no such setting, did you mean kafka.boots"),
        ("[kafak]\n", "mine.toml: [kafak]: no such setting, did you mean kafka?"),
        ("bootstrap = 'x'\n", "mine.toml: bootstrap: belongs in a section, did you mean kafka.bootstrap?"),
        (
            "[redis]\nbatch_max = 3\n",
            "mine.toml: redis.batch_max: no such setting, did you mean worker.batch_",
        ),
        (
            "[redis]\nqqqqq = 3\n",
            "mine.toml: redis.qqqqq: no such setting; [redis] has url, cluster,",
        ),
        ("[kafka]\npartitions = '8'\n", "mine.toml: kafka.partitions: expected int, got '8'"),
        ("[kafka]\npartitions = true\n", "mine.toml: kafka.partitions: expected int, got True"),
        ("[kafka]\npartitions = 0\n", "mine.toml: kafka.partitions: expected int >= 1, got 0"),
        ("[policy]\nquery_minutes = nan\n", "mine.toml: policy.query_minutes: expected a finite float"),
        ("[telemetry]\nlog_level = 'loud'\n", "expected one of debug, info, warning, error, got 'loud'"),
        (
            "[topics]\nitems = 'clicks'\n",
            "mine.toml: topics.items: 'clicks' is the name of topics.clicks too",
        ),
        ("[kafka\n", "mine.toml: not TOML (Expected ']' at the end of a table declaration (at line 1"),
    ],
)
def test_a_mistake_in_the_file_names_key_place_and_cure(text: str, expected: str) -> None:
    assert expected in _error(text)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("STREAMREC_KAFKA_BOOTSTRAP", "x", "did you mean STREAMREC_KAFKA__BOOTSTRAP?"),
        ("STREAMREC_CONFG", "x", "did you mean STREAMREC_CONFIG?"),
        (
            "STREAMREC_TRITON__RERANK_DEADLINE_MS",
            "5 ms",
            "triton.rerank_deadline_ms: expected int, got '5 ms'",
        ),
        ("STREAMREC_REDIS__URL", "http://u:secret@h", "redis.url: expected str matching regex"),
    ],
)
def test_a_mistake_in_the_environment_names_key_place_and_cure(
    variable: str, value: str, expected: str
) -> None:
    message = _error(**{variable: value})
    assert message.startswith("environment")
    assert variable in message
    assert expected in message
    assert "secret" not in message


def test_a_missing_file_is_an_error_that_names_it() -> None:
    assert "nowhere.toml: no such file" in _error(STREAMREC_CONFIG="nowhere.toml")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:p@ss:word@host:1/0", "redis://user:***@host:1/0"),
        ("rediss://:secret@host", "rediss://:***@host"),
        ("redis://host/0?password=secret&db=1", "redis://host/0?password=***&db=1"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("127.0.0.1:8001", "127.0.0.1:8001"),
    ],
)
def test_a_password_is_hidden_and_the_rest_is_shown(url: str, shown: str) -> None:
    assert mask_secrets(url) == shown


def test_the_variables_of_a_configuration_load_the_same_configuration() -> None:
    env = {"STREAMREC_KAFKA__BOOTSTRAP": "h:1", "STREAMREC_POLICY__EXCLUDE_BOUGHT_DAYS": "0.5"}
    config = load_config(env=env)
    assert environment_of(config) == env
    assert load_config(env=environment_of(config)) == config


def test_reading_settings_loads_none_of_the_heavy_libraries() -> None:
    script = (
        "import sys, stream.config; print([m for m in ('faust', 'aiokafka', 'numpy') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert output.stdout.strip() == "[]"


def test_a_section_within_the_policy_is_json_in_the_environment_and_comes_back_from_it() -> None:
    env = {
        "STREAMREC_POLICY__EXPLORATION": '{"slots": 0}',
        "STREAMREC_POLICY__DIVERSITY": '{"strength": 0.5}',
    }
    config = load_config(env=env)
    assert config.policy.exploration.slots == 0
    assert config.policy.diversity.strength == 0.5
    assert load_config(env=environment_of(config)) == config
    with pytest.raises(ConfigError, match=r"policy\.exploration: .*invalid character"):
        load_config(env={"STREAMREC_POLICY__EXPLORATION": "slots=0"})
