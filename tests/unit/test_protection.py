"""Users, passwords and certificates: where they come from, that they are never shown, and what is refused."""

from __future__ import annotations

import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stream.adapters import tls
from stream.adapters.redis_cluster import nodes_of
from stream.config import Config, Kafka, environment_of, load_config, load_with_origin
from stream.errors import ConfigError
from stream.secret import Secret

LOGIN = {"STREAMREC_KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "STREAMREC_KAFKA__USERNAME": "worker"}


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def error_of(**env: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(env={f"STREAMREC_{name}": value for name, value in env.items()})
    message = str(raised.value)
    assert "hunter2" not in message
    assert "\n" not in message
    return message


def test_a_secret_is_not_shown_however_it_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret("hunter2")
    logging.getLogger().warning("%s %r %s", secret, secret, Kafka(password=secret))
    shown = f"{secret} {secret!r} {[secret]} {Config(kafka=Kafka(password=secret))!r} {caplog.text}"
    assert "hunter2" not in shown
    assert shown.count("***") >= 6
    assert secret.reveal() == "hunter2"
    with pytest.raises(TypeError, match="not written down"):
        pickle.dumps(secret)


def test_a_secret_equals_the_same_secret_and_none_is_false() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))
    assert not Secret()
    assert str(Secret()) == ""


def test_a_password_comes_from_the_environment_and_is_hidden_in_every_setting() -> None:
    loaded = load_with_origin(env={**LOGIN, "STREAMREC_KAFKA__PASSWORD": "hunter2"})
    assert loaded.config.kafka.password.reveal() == "hunter2"
    assert "hunter2" not in repr(loaded)
    shown = {setting.key: setting.value for setting in loaded.settings}
    assert (shown["kafka.username"], shown["kafka.password"]) == ("worker", "***")


def test_a_password_comes_from_a_file_without_the_end_of_its_line() -> None:
    Path("password").write_text("hunter2\n")
    config = load_config(env={**LOGIN, "STREAMREC_KAFKA__PASSWORD_FILE": "password"})
    assert config.kafka.password.reveal() == "hunter2"


def test_a_password_in_the_address_of_redis_is_taken_out_of_it() -> None:
    config = load_config(env={"STREAMREC_REDIS__URL": "rediss://engine:hunter%402@cache:6379/1"})
    assert config.redis.url == "rediss://cache:6379/1"
    assert (config.redis.username, config.redis.password.reveal()) == ("engine", "hunter@2")
    config = load_config(env={"STREAMREC_REDIS__URL": "unix:///run/redis.sock?db=1&password=hunter2"})
    assert config.redis.url == "unix:///run/redis.sock?db=1"
    assert config.redis.password.reveal() == "hunter2"
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    "given",
    [
        {**LOGIN, "STREAMREC_KAFKA__PASSWORD": "hunter2"},
        {**LOGIN, "STREAMREC_KAFKA__PASSWORD_FILE": "password"},
        {"STREAMREC_REDIS__URL": "rediss://engine:hunter2@cache:6379/1"},
        {"STREAMREC_TRITON__TLS": "True", "STREAMREC_TRITON__CA_FILE": "ca.pem"},
    ],
)
def test_a_process_that_is_started_gets_the_same_configuration(given: dict[str, str]) -> None:
    Path("password").write_text("hunter2")
    config = load_config(env=given)
    assert load_config(env=environment_of(config)) == config


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (
            {"KAFKA__SECURITY_PROTOCOL": "SASL_SSL"},
            "environment STREAMREC_KAFKA__SECURITY_PROTOCOL: kafka.security_protocol is SASL_SSL, which "
            "needs a user: set kafka.username",
        ),
        (
            {"KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "KAFKA__USERNAME": "u"},
            "needs a user: set kafka.password or kafka.password_file",
        ),
        (
            {"KAFKA__USERNAME": "u"},
            "kafka.username has no effect where kafka.security_protocol is PLAINTEXT: set that to SASL_SSL",
        ),
        ({"KAFKA__PASSWORD": "hunter2"}, "kafka.password has no effect where"),
        (
            {"KAFKA__CA_FILE": "ca.pem"},
            "kafka.ca_file has no effect where kafka.security_protocol is PLAINTEXT: set that to SASL_SSL or",
        ),
        ({"REDIS__CA_FILE": "ca.pem"}, "redis.ca_file has no effect where redis.url is no rediss:// URL"),
        ({"TRITON__CA_FILE": "ca.pem"}, "triton.ca_file has no effect where triton.tls is false: set it to"),
        (
            {"TRITON__TLS": "true", "TRITON__KEY_FILE": "key.pem"},
            "triton.key_file is half of a pair: set triton.certificate_file too",
        ),
        (
            {"REDIS__USERNAME": "u"},
            "redis.username is nothing without a password: set redis.password or redis.password_file",
        ),
        (
            {"REDIS__URL": "redis://:hunter2@h", "REDIS__PASSWORD": "hunter2"},
            "environment STREAMREC_REDIS__PASSWORD: redis.password: redis.url holds one too",
        ),
        (
            {"REDIS__PASSWORD_FILE": "nowhere", "REDIS__PASSWORD": "hunter2"},
            "redis.password_file: the password is set by environment STREAMREC_REDIS__PASSWORD too; keep one",
        ),
        (
            {"REDIS__PASSWORD_FILE": "nowhere"},
            "environment STREAMREC_REDIS__PASSWORD_FILE: redis.password_file: nowhere cannot be read: No",
        ),
        (
            {"REDIS__PASSWORD_FILE": "empty"},
            "redis.password_file: empty is empty: write the password into it",
        ),
        ({"REDIS__URL": "redis://:hunter2/x@h:6379"}, "redis.url: cannot be read as a URL: percent-encode"),
    ],
)
def test_what_would_leave_the_engine_unprotected_is_refused_with_place_and_cure(
    env: dict[str, str], expected: str
) -> None:
    Path("empty").write_text("\n")
    assert expected in error_of(**env)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (
            {"URL": "redis://a:1,b:2"},
            "redis.url: names several nodes: set redis.cluster to true, or name one",
        ),
        ({"URL": "unix:///tmp/redis", "CLUSTER": "true"}, "redis.url: a cluster is not reached by a socket"),
        ({"URL": "redis://a:1/3", "CLUSTER": "true"}, "redis.url: a cluster has no database but 0"),
        ({"URL": "redis://a:1/0?db=2", "CLUSTER": "true"}, "redis.url: options after the ? have no effect"),
        ({"KEY_PREFIX": "{shop}:", "CLUSTER": "true"}, "redis.key_prefix: a brace would put all keys on one"),
        ({"URL": "redis://a:1,b:x", "CLUSTER": "true"}, "redis.url: cannot be read as a URL"),
    ],
)
def test_what_a_cluster_has_not_and_several_nodes_of_none_are_refused(
    env: dict[str, str], expected: str
) -> None:
    assert expected in error_of(**{f"REDIS__{name}": value for name, value in env.items()})


def test_a_cluster_is_named_by_several_nodes_and_its_password_is_taken_out_of_the_address() -> None:
    url = "rediss://worker:hunter2@a:7000,b,[::1]:7002/0"
    config = load_config(env={"STREAMREC_REDIS__URL": url, "STREAMREC_REDIS__CLUSTER": "true"})
    assert config.redis.url == "rediss://a:7000,b,[::1]:7002/0"
    assert (config.redis.username, config.redis.password.reveal()) == ("worker", "hunter2")
    assert nodes_of(config.redis.url) == [("a", 7000), ("b", 6379), ("::1", 7002)]


def test_a_password_of_the_wrong_type_in_a_file_is_not_repeated() -> None:
    Path("mine.toml").write_text("[kafka]\npassword = 4711\n")
    with pytest.raises(ConfigError, match=re.escape("mine.toml: kafka.password: expected str")) as raised:
        load_config("mine.toml", {})
    assert "4711" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ca_file": "nowhere"}, "kafka.ca_file: nowhere cannot be read: No such file"),
        ({"ca_file": "text"}, "kafka.ca_file: text holds no certificate in PEM"),
        ({"certificate_file": "text", "key_file": "text"}, "are no certificate and its key, in PEM"),
        ({"certificate_file": "nowhere", "key_file": "text"}, "cannot be read: No such file"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused_with_the_name_of_its_setting(
    settings: dict[str, str], expected: str
) -> None:
    Path("text").write_text("no certificate\n")
    with pytest.raises(ConfigError) as raised:
        tls.context(Kafka(**settings), tls.KAFKA)
    assert expected in str(raised.value)


def test_no_command_takes_a_password() -> None:
    """What stands on a command line, everybody on the machine can read."""
    script = """
import typer
from stream.cli import app

def options(command, path=""):
    for parameter in command.params:
        yield from (f"{path} {name}" for name in parameter.opts)
    for name, inner in getattr(command, "commands", {}).items():
        yield from options(inner, f"{path} {name}")

print("\\n".join(options(typer.main.get_command(app))))
"""
    said = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ)
    ).stdout
    assert "--config" in said
    assert not re.search(r"pass(word|wd|phrase)|secret|token|credential", said, re.IGNORECASE)
