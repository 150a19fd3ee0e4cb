"""The local stack, with its real servers and the real command line."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis import Redis
from streamrec_command import PROGRAM

from stream.errors import LocalStackError
from stream.local import cache
from stream.local.processes import marked
from stream.local.stack import AlreadyUp, Stack

pytestmark = pytest.mark.servers


MODEL = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        read = pb_utils.get_input_tensor_by_name
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", read(request, "IN").as_numpy())])
            for request in requests
        ]
"""
CONFIG = """\
backend: "python"
max_batch_size: 8
input [{ name: "IN", data_type: TYPE_FP32, dims: [ -1 ] }]
output [{ name: "OUT", data_type: TYPE_FP32, dims: [ -1 ] }]
instance_group [{ kind: KIND_CPU, count: 1 }]
"""


def write_model(repository: Path, code: str = MODEL) -> Path:
    """Write a model repository with one tiny model."""
    (repository / "echo" / "1").mkdir(parents=True)
    (repository / "echo" / "config.pbtxt").write_text(CONFIG)
    (repository / "echo" / "1" / "model.py").write_text(code)
    return repository


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository that loads in no time."""
    return write_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Stack]:
    """A second stack, brought up by the command line, whose servers may be hurt."""
    folder = tmp_path_factory.mktemp("other")
    with Stack(folder, models) as stack:
        streamrec(folder, "up", "--json", "--models", str(models), check=True)
        yield stack


def streamrec(folder: Path, *arguments: str, check: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run `streamrec local`; with `check` it has to succeed."""
    done = subprocess.run(
        [PROGRAM, "local", *arguments],
        env={**os.environ, "STREAMREC_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


def eventually(condition: Callable[[], bool], timeout_s: float = 300.0) -> bool:
    """Wait until `condition` holds; return whether it came to hold in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def shared_memory(folder: Path) -> list[Path]:
    """Return the shared memory files that the Triton of the stack in `folder` has made."""
    return list(Path("/dev/shm").glob(f"streamrec-{cache.key(folder / 'triton')}-*"))


def nothing_is_left(folder: Path) -> bool:
    """Tell whether soon no process and no shared memory of a stack is left."""
    return eventually(lambda: not list(marked(folder)) and not shared_memory(folder))


def produce(bootstrap: str, topic: str, value: bytes) -> int:
    """Write one message, making the topic if it is missing; return its offset."""

    async def send() -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        if topic not in await admin.list_topics():
            await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
            return int((await producer.send_and_wait(topic, value)).offset)

    return asyncio.run(send())


def test_two_stacks_run_side_by_side_and_know_nothing_of_each_other(stack: Stack, other: Stack) -> None:
    ours, theirs = stack.endpoints, other.endpoints
    assert {ours.kafka, ours.redis, ours.triton_grpc}.isdisjoint(
        {theirs.kafka, theirs.redis, theirs.triton_grpc}
    )
    Redis.from_url(ours.redis).set("whose", "ours")
    assert Redis.from_url(theirs.redis).get("whose") is None
    assert produce(theirs.kafka, "side-by-side", b"theirs") == 0
    assert produce(ours.kafka, "side-by-side", b"ours") == 0
    assert eventually(lambda: stack.status().state == other.status().state == "up")


def test_everything_listens_on_the_loopback_address_only(other: Stack) -> None:
    ports = {port for server in other.status().servers for port in server.ports.values()}
    loopback = f"{int.from_bytes(socket.inet_aton('127.0.0.1'), sys.byteorder):08X}"
    mapped = "0000000000000000FFFF0000" + loopback
    heard = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].rpartition(":")
            if fields[3] == "0A" and int(port, 16) in ports:
                assert address in (loopback, mapped)
                heard.add(int(port, 16))
    assert heard == ports


def test_a_second_up_is_told_so_and_gets_the_same_endpoints(other: Stack) -> None:
    again = streamrec(other.folder, "up", "--json")
    assert again.returncode == 0
    assert "up already" in again.stderr
    assert json.loads(again.stdout) == {
        name: getattr(other.endpoints, name)
        for name in ("kafka", "redis", "triton_grpc", "triton_http", "metrics", "folder")
    }
    with pytest.raises(AlreadyUp):
        other.up()


def test_a_dead_server_takes_its_children_along_is_shown_and_can_be_started_again(other: Stack) -> None:
    assert shared_memory(other.folder)
    other.kill("triton")
    assert eventually(lambda: not any("triton" in command(pid) for pid in marked(other.folder)))
    assert eventually(lambda: not shared_memory(other.folder))
    shown = streamrec(other.folder, "status")
    assert shown.returncode == 1
    assert "died (SIGKILL)" in shown.stdout
    assert "Started HTTPService" in shown.stdout
    status = json.loads(streamrec(other.folder, "status", "--json").stdout)
    assert status["state"] == "degraded"
    assert "not well: triton" in streamrec(other.folder, "up").stderr
    other.start("triton")
    assert eventually(lambda: other.status().state == "up")


def test_a_server_that_lives_but_does_not_answer_is_shown(other: Stack) -> None:
    other.pause("redis")
    stub = next(pid for pid in marked(other.folder) if "python_backend_stub" in command(pid))
    os.kill(stub, signal.SIGKILL)

    def lacks() -> dict[str, str | None]:
        return {server.name: server.lacks for server in other.status().servers}

    assert eventually(lambda: "Stub process" in (lacks()["triton"] or ""))
    assert eventually(lambda: lacks()["kafka"] is None)
    assert lacks()["redis"]
    other.resume("redis")
    other.kill("triton")
    other.start("triton")
    other.wait_until_well(300.0)


def command(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_what_was_written_survives_down_and_up_on_the_same_ports(other: Stack, models: Path) -> None:
    before = other.endpoints
    Redis.from_url(before.redis).set("kept", "yes")
    offset = produce(before.kafka, "kept", b"yes")
    assert streamrec(other.folder, "down").returncode == 0
    assert nothing_is_left(other.folder)
    assert streamrec(other.folder, "status").returncode == 3
    streamrec(other.folder, "up", "--models", str(models), check=True)
    assert other.endpoints == before
    assert Redis.from_url(before.redis).get("kept") == b"yes"
    assert produce(before.kafka, "kept", b"again") == offset + 1


def test_servers_die_with_their_supervisor_and_their_data_survives_it(other: Stack) -> None:
    redis = Redis.from_url(other.endpoints.redis)
    redis.set("before", "the fall")
    offset = produce(other.endpoints.kafka, "fallen", b"before")
    state = (other.folder / "state.json").read_text()
    os.kill(json.loads(state)["supervisor_pid"], signal.SIGKILL)
    assert nothing_is_left(other.folder)
    assert "supervisor was killed" in streamrec(other.folder, "status").stdout
    other.up()
    assert redis.get("before") == b"the fall"
    assert produce(other.endpoints.kafka, "fallen", b"after") == offset + 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_up_that_is_ended_while_it_starts_leaves_nothing_behind(
    tmp_path: Path, models: Path, number: signal.Signals
) -> None:
    up = subprocess.Popen(
        [PROGRAM, "local", "up", "--home", str(tmp_path), "--models", str(models)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert eventually(lambda: started(tmp_path) == {"kafka", "redis", "triton"})
    up.send_signal(number)
    assert up.wait(300) != 0
    assert nothing_is_left(tmp_path)
    assert not Stack(tmp_path).is_running()


def started(folder: Path) -> set[str]:
    """Return which servers of the stack in `folder` have a process."""
    return {server.name for server in Stack(folder).status().servers if server.pid}


def test_an_owned_stack_ends_when_its_owner_is_killed(tmp_path: Path, models: Path) -> None:
    owner = subprocess.Popen(
        [PROGRAM, "local", "up", "--foreground", "--home", str(tmp_path), "--models", str(models)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    assert eventually(lambda: Stack(tmp_path).status().state == "up")
    owner.kill()
    owner.wait()
    assert nothing_is_left(tmp_path)


def test_an_up_with_workers_comes_back_when_lists_are_made(tmp_path: Path, models: Path) -> None:
    click = {
        "event_id": "e1",
        "event_type": "view_item",
        "event_time": time.time_ns() // 1_000_000,
        "user_id": "u1",
        "item_id": "i1",
    }

    async def publish_and_read(bootstrap: str) -> bytes:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send_and_wait("clicks", json.dumps(click).encode(), key=b"u1")
        async with AIOKafkaConsumer(
            "recommendations", bootstrap_servers=bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            return (await asyncio.wait_for(consumer.getone(), 300)).value

    with Stack(tmp_path, models) as stack:
        up = streamrec(tmp_path, "up", "--workers", "1", "--json", "--models", str(models), check=True)
        made = json.loads(asyncio.run(publish_and_read(json.loads(up.stdout)["kafka"])))
        assert made["trigger"]["event_id"] == "e1"
        more = streamrec(tmp_path, "up", "--workers", "2", "--json")
        assert (more.returncode, more.stdout) == (1, "")
        assert "with 1 of 2 workers" in " ".join(more.stderr.split())
        stack.kill("worker-0")
        assert "worker-0   died (SIGKILL)" in streamrec(tmp_path, "status").stdout


def test_a_model_that_cannot_be_loaded_fails_the_start_with_its_own_words(tmp_path: Path) -> None:
    models = write_model(tmp_path / "models", "raise RuntimeError('no weights here')\n")
    up = streamrec(tmp_path / "home", "up", "--json", "--models", str(models))
    assert up.returncode == 1
    assert up.stdout == ""
    assert "triton did not start" in up.stderr
    assert "no weights here" in up.stderr
    assert nothing_is_left(tmp_path / "home")


def test_a_broker_that_cannot_start_says_why(tmp_path: Path, models: Path) -> None:
    data = tmp_path / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=of-another-broker\nnode.id=7\n")
    up = streamrec(tmp_path, "up", "--models", str(models))
    assert up.returncode == 1
    assert "kafka did not start" in up.stderr
    assert "Stored node id 7" in up.stderr
    assert nothing_is_left(tmp_path)


def test_a_taken_port_is_named_with_who_holds_it(tmp_path: Path, models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        up = streamrec(tmp_path, "up", "--models", str(models), "--port", f"redis={port}")
    assert up.returncode == 1
    said = " ".join(up.stderr.split())
    assert f"Port {port}, which this stack keeps for redis, is taken by" in said
    assert f"(pid {os.getpid()})" in said
    assert not list(marked(tmp_path))


def test_a_port_of_ones_own_choice_is_used_and_kept(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    with pytest.raises(LocalStackError, match="no port called reddis"):
        stack.up(wanted_ports={"reddis": 1})


def test_logs_show_the_last_lines_of_a_server(other: Stack) -> None:
    shown = streamrec(other.folder, "logs", "redis", "-n", "2")
    assert len(shown.stdout.splitlines()) == 2
    every = streamrec(other.folder, "logs", "-n", "1")
    assert [line for line in every.stdout.splitlines() if line.startswith("==>")] == [
        f"==> {other.folder}/logs/{name}.log <==" for name in ("kafka", "redis", "supervisor", "triton")
    ]
    missing = streamrec(other.folder, "logs", "postgres")
    assert missing.returncode == 1
    assert "kafka, redis, supervisor, triton" in " ".join(missing.stderr.split())
