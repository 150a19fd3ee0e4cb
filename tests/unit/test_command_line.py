"""The command line: help with examples, exit codes, and messages for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from stream.cli import app

PROGRAM = [sys.executable, "-P", "-c", "from stream.cli import main; main()"]


def run(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMREC_")}
    return subprocess.run(
        [*PROGRAM, *arguments], input=stdin, capture_output=True, text=True, timeout=60, env={**kept, **env}
    )


def _commands(command: typer.core.TyperCommand, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
        return
    for name, child in inner.items():
        yield from _commands(child, (*path, name))


COMMANDS = sorted(_commands(get_command(app)))


def test_the_commands_are_those_of_the_contract() -> None:
    assert {path[0] for path in COMMANDS} == {
        *("local", "topics", "schema", "worker", "catalog"),
        *("publish", "watch", "replay", "user", "models", "config"),
        *("rules", "evaluate", "explain", "report", "trainer", "dead-letters"),
        *("rebuild", "top", "plan", "privacy"),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_an_example_of_it(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help", COLUMNS="200")
    assert shown.returncode == 0
    _, _, examples = shown.stdout.partition("Example")
    assert f"streamrec {' '.join(path)}" in examples


def test_help_loads_none_of_the_heavy_libraries() -> None:
    heavy = ("aiohttp", "aiokafka", "faust", "numpy", "redis", "tritonclient", "usearch")
    script = f"import sys, stream.cli; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_mistake_is_one_message_without_a_trace_and_exit_code_1() -> None:
    shown = run("config", STREAMREC_KAFKA__BOOTSTAP="x")
    assert shown.returncode == 1
    assert shown.stderr.startswith("streamrec: environment: STREAMREC_KAFKA__BOOTSTAP: no such setting")
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "list"),
        ("topics", "create"),
        ("publish", "clicks"),
        ("catalog", "import", "synthetic"),
        ("watch",),
        ("replay", "synthetic", "--limit", "1"),
    ],
    ids=" ".join,
)
def test_a_kafka_that_is_away_is_named_with_its_place_and_the_cure(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    shown = run(*arguments, STREAMREC_KAFKA__BOOTSTRAP="127.0.0.1:1")
    assert shown.returncode == 1
    assert "Kafka did not answer at 127.0.0.1:1" in shown.stderr
    assert "streamrec local status" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_redis_that_is_away_is_named_with_its_place_but_without_its_password() -> None:
    shown = run("user", "show", "ann", STREAMREC_REDIS__URL="redis://:secret@127.0.0.1:1/0")
    assert shown.returncode == 1
    assert "no answer at 127.0.0.1:1: is it running? `streamrec local status` tells" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert "secret" not in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("publish", "clicks", "nowhere.jsonl"), "nowhere.jsonl: No such file"),
        (("publish", "lists"), "'lists' is not one of"),
        (("catalog", "import", "icecat"), "icecat needs the file to read"),
        (("replay", "online-retail", "nowhere.csv.gz"), "'nowhere.csv.gz' does not exist"),
        (("replay", "synthetic", "--speed", "fast"), "'fast' is neither a positive factor nor max"),
        (("nothing",), "No such command 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_explained_with_exit_code_2(arguments: tuple[str, ...], expected: str) -> None:
    shown = run(*arguments)
    assert shown.returncode == 2
    assert expected in shown.stderr


def test_config_shows_each_value_and_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('[redis]\nurl = "redis://:secret@cache:6379/1"\n')
    env = {"STREAMREC_WORKER__BATCH_MAX": "32"}
    shown = run("config", "--config", str(file), **env)
    lines = {line.split()[0]: line for line in shown.stdout.splitlines()}
    assert lines["kafka.partitions"].split()[1:] == ["8", "default"]
    assert lines["worker.batch_max"].split()[1:] == ["32", "environment", "STREAMREC_WORKER__BATCH_MAX"]
    assert lines["redis.url"].split()[1:] == ["redis://:***@cache:6379/1", "file", str(file)]
    as_json = json.loads(run("config", "--config", str(file), "--json", **env).stdout)
    assert as_json["worker.batch_max"]["value"] == 32
    assert as_json["worker.batch_max"]["origin"] == "environment STREAMREC_WORKER__BATCH_MAX"
    assert as_json["redis.url"]["value"] == "redis://:***@cache:6379/1"
    assert as_json.keys() == lines.keys()
