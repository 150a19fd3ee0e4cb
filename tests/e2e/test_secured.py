"""Kafka, Redis and Triton over TLS with users: an engine needs the rights that SECURITY.md names, no more."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_rerankers import add_version
from redis.exceptions import NoPermissionError
from secured_servers import PASSWORDS, Secured, secured_servers

from stream.adapters import redis_client
from stream.adapters.kafka_clients import admin, consumer, producer
from stream.config import load_config
from stream.errors import Unavailable

pytestmark = pytest.mark.servers
LONG_S = 240.0
REPOSITORY = Path(__file__).parents[2] / "model_repository"
LOAD_TESTS = Path(__file__).parents[2] / "load_tests"
STREAMREC = Path(sys.executable).with_name("streamrec")
PATIENT = {
    **{f"TRITON__{name}_DEADLINE_MS": "60000" for name in ("RERANK", "ENCODE", "CROSS_ENCODE")},
    "KAFKA__SESSION_TIMEOUT_S": "60",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, with a second version of the reranker that serves nobody yet."""
    models = tmp_path_factory.mktemp("models")
    for model in REPOSITORY.iterdir():
        if model.name == "reranker":
            shutil.copytree(model, models / model.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (models / model.name).symlink_to(model)
    return models


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Secured]:
    """The three servers with everything on; the topics are made by the operator."""
    with secured_servers(tmp_path_factory.mktemp("secured"), repository) as servers:
        made = streamrec(servers.env("operator", KAFKA__PARTITIONS="2"), "topics", "create")
        assert made.returncode == 0, made.stderr
        yield servers


def streamrec(env: Mapping[str, str], *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of streamrec's commands, as `ran`."""
    return ran([str(STREAMREC), *words], env, given)


def ran(command: Sequence[str], env: Mapping[str, str], given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command as a user would, and see that no password is in what it says."""
    done = subprocess.run(
        command,
        env={**os.environ, **env},
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_S,
    )
    assert no_password_in(done.stdout + done.stderr)
    return done


def no_password_in(text: str) -> bool:
    return not any(password in text for password in (*PASSWORDS.values(), "hunter2"))


class Running:
    """A worker of these servers; its log in a file."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.log = folder / "worker.log"
        self.process = subprocess.Popen(
            [STREAMREC, "worker"],
            env={**os.environ, **env, "STREAMREC_TELEMETRY__PORT": "0"},
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            cwd=folder,
        )

    async def says(self, words: str) -> None:
        """Wait until the log has these words."""
        async with asyncio.timeout(LONG_S):
            while words not in self.log.read_text():
                assert self.process.poll() is None, self.log.read_text()[-3000:]
                await asyncio.sleep(0.05)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(LONG_S)
        finally:
            self.process.kill()


def click(number: int, user: str, item: str) -> str:
    fields = {"event_id": f"e{number}", "event_type": "view_item", "event_time": 1_790_000_000_000 + number}
    return json.dumps({**fields, "user_id": user, "item_id": item})


def test_events_come_in_and_lists_go_out_with_exactly_the_documented_rights(
    secured: Secured, repository: Path, tmp_path: Path
) -> None:
    kinds = ["mug", "lantern", "cushion", "kettle", "clock", "frame"]
    items = [
        json.dumps({"item_id": f"item-{number}", "title": f"{colour} {kind}", "category": [kind]})
        for number, (colour, kind) in enumerate((c, k) for c in ("red", "blue", "green") for k in kinds)
    ]
    shop = secured.env("shop")
    published = streamrec(shop, "publish", "items", given="\n".join(items))
    assert published.returncode == 0, published.stderr

    async def lists_of_ann() -> dict[str, Any]:
        """Read as the page does; an event is sent again and again, since items are encoded meanwhile."""
        page = load_config(env=secured.env("page"))
        async with consumer(page.kafka, page.topics.recommendations, auto_offset_reset="earliest") as reader:
            async with asyncio.timeout(LONG_S):
                for number in range(10_000):
                    sent = streamrec(shop, "publish", "clicks", given=click(number, "ann", "item-1"))
                    assert sent.returncode == 0, sent.stderr
                    for batch in (await reader.getmany(timeout_ms=1_000)).values():
                        for message in batch:
                            made: dict[str, Any] = json.loads(message.value)
                            if made["items"] and "reranker" in made["model_versions"]:
                                return made
        raise AssertionError("unreachable")

    worker = Running(secured.env("worker", **PATIENT), tmp_path)
    try:
        made = asyncio.run(lists_of_ann())
        the_trainer_follows_and_changes_versions(secured, repository, tmp_path)
        a_load_test_sees_what_its_readers_see(secured)
    finally:
        code = worker.end()
        said = worker.log.read_text()
        print(said[-5000:])
    assert made["user_id"] == "ann"
    assert code == 0
    assert no_password_in(said)
    assert "Traceback" not in said
    for refusal in ("NOPERM", "no permissions", "Authorization", "cannot be used"):
        assert refusal not in said
    shown = streamrec(secured.env("worker"), "user", "show", "ann")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "item-1" in shown.stdout
    listed = streamrec(secured.env("operator"), "models", "list")
    assert "reranker" in listed.stdout
    assert "cannot be used" not in listed.stderr


def the_trainer_follows_and_changes_versions(secured: Secured, repository: Path, folder: Path) -> None:
    trainer = secured.env("trainer", TRAINER__FOLDER=str(folder / "trainer"), TRAINER__PORT="0", **PATIENT)
    at = ("--repository", str(repository))
    followed = streamrec(trainer, "trainer", "--once", "--no-roll", *at)
    assert followed.returncode == 0, followed.stderr
    version = add_version(repository, liking=1.0)
    promoted = streamrec(trainer, "models", "promote", "reranker", version, "--force", "a test", *at)
    assert promoted.returncode == 0, promoted.stderr

    async def lock() -> bytes | None:
        async with redis_client.connect(load_config(env=trainer).redis) as client:
            left: bytes | None = await client.get("sr:lock:reranker")
            return left

    assert asyncio.run(lock()) is None, "it may take its lock away"


def a_load_test_sees_what_its_readers_see(secured: Secured) -> None:
    options = ["--rate", "5", "--seconds", "3", "--warm-up", "0", "--patience", "60", "--processes", "1"]
    json_file = secured.folder / "load.json"
    load = [sys.executable, "-P", str(LOAD_TESTS), "run", "--topics", "clicks,searches", *options]
    tested = ran([*load, "--json", str(json_file)], secured.env("load"))
    assert tested.returncode in (0, 1), tested.stderr  # 1: the SLO, which is not what this is about
    result = json.loads(json_file.read_text())
    assert result["counts"]["answered"] == result["counts"]["sent"]
    assert result["samples"][-1]["lag"] is not None, "it may see how far the workers are"


KAFKA, REDIS, TRITON = ("topics", "list"), ("user", "show", "ann"), ("models", "list")


@pytest.mark.parametrize(
    ("command", "changed", "cause", "cure"),
    [
        (
            KAFKA,
            {"KAFKA__PASSWORD_FILE": "", "KAFKA__PASSWORD": "hunter2"},
            "it refused the user 'operator'",
            "kafka.username or kafka.password is wrong",
        ),
        (
            KAFKA,
            {"KAFKA__CA_FILE": "{other}"},
            "its certificate is not trusted",
            "set kafka.ca_file to the file of who signed it",
        ),
        (
            KAFKA,
            {"KAFKA__BOOTSTRAP": "localhost:{kafka}"},
            "its certificate is for another name",
            "reach Kafka by a name that the certificate holds",
        ),
        (
            KAFKA,
            {
                "KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
                **dict.fromkeys(("KAFKA__USERNAME", "KAFKA__PASSWORD_FILE", "KAFKA__CA_FILE"), ""),
            },
            "it speaks TLS",
            "set kafka.security_protocol to SASL_SSL or SSL",
        ),
        (
            KAFKA,
            {"KAFKA__SECURITY_PROTOCOL": "SSL", "KAFKA__USERNAME": "", "KAFKA__PASSWORD_FILE": ""},
            "it hangs up on us",
            "set kafka.security_protocol to SASL_SSL",
        ),
        (
            KAFKA,
            {"KAFKA__BOOTSTRAP": "127.0.0.1:{kafka_plain}"},
            "it does not speak TLS on this port",
            "set kafka.security_protocol to SASL_PLAINTEXT or PLAINTEXT",
        ),
        (
            KAFKA,
            {"KAFKA__BOOTSTRAP": "127.0.0.1:{kafka_tls}"},
            "it asks for no user on this port",
            "set kafka.security_protocol to PLAINTEXT or SSL",
        ),
        (
            REDIS,
            {"REDIS__PASSWORD": "hunter2"},
            "Redis refused the user 'worker'",
            "redis.username or redis.password is wrong",
        ),
        (
            REDIS,
            {"REDIS__USERNAME": "", "REDIS__PASSWORD": ""},
            "Redis asks for a user",
            "set redis.username and redis.password",
        ),
        (
            REDIS,
            {"REDIS__CA_FILE": "{other}"},
            "its certificate is not trusted",
            "set redis.ca_file to the file of who signed it",
        ),
        (
            REDIS,
            {"REDIS__URL": "redis://127.0.0.1:{redis}", "REDIS__CA_FILE": ""},
            "it speaks TLS",
            "set a rediss:// URL as redis.url",
        ),
        (
            TRITON,
            {"TRITON__CA_FILE": "{other}"},
            "its certificate is not trusted",
            "set triton.ca_file to the file of who signed it",
        ),
        (
            TRITON,
            {"TRITON__CERTIFICATE_FILE": "", "TRITON__KEY_FILE": ""},
            "it refused the TLS connection",
            "triton.certificate_file and triton.key_file must hold a certificate that it trusts",
        ),
        (
            TRITON,
            {
                "TRITON__TLS": "",
                **dict.fromkeys(("TRITON__CA_FILE", "TRITON__CERTIFICATE_FILE", "TRITON__KEY_FILE"), ""),
            },
            "it speaks TLS",
            "set triton.tls to true",
        ),
    ],
)
def test_who_is_refused_hears_the_cause_the_place_and_the_cure_on_one_line(
    secured: Secured, command: tuple[str, ...], changed: dict[str, str], cause: str, cure: str
) -> None:
    told = {
        name: value.format(
            other=secured.other_ca,
            kafka=secured.kafka,
            kafka_plain=secured.kafka_plain,
            kafka_tls=secured.kafka_tls,
            redis=secured.redis,
        )
        for name, value in changed.items()
    }
    refused = streamrec(secured.env("operator", **told), *command)
    # `models list` shows what else there is to see, and says beside it who did not answer.
    assert refused.returncode == (0 if command == TRITON else 1), refused.stderr
    (line,) = [line for line in refused.stderr.splitlines() if cause in line]
    assert cure in line
    assert len(refused.stderr.splitlines()) == 1
    assert "Traceback" not in refused.stderr


def test_a_worker_that_is_refused_waits_and_says_why(secured: Secured, tmp_path: Path) -> None:
    env = secured.env("worker", KAFKA__PASSWORD="hunter2", KAFKA__PASSWORD_FILE="")
    worker = Running(env, tmp_path)
    try:
        asyncio.run(worker.says("waiting for Kafka: Kafka at"))
    finally:
        code = worker.end()
    said = worker.log.read_text()
    assert code == 0
    assert "it refused the user 'worker': kafka.username or kafka.password is wrong" in said
    assert "Traceback" not in said
    assert no_password_in(said)


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        *(("shop", "recommendations"), ("page", "clicks"), ("worker", "items"), ("shop", "rules")),
        *(("trainer", "recommendations"), ("load", "model-versions")),
    ],
)
def test_a_user_of_kafka_cannot_write_what_is_not_its_own(secured: Secured, user: str, topic: str) -> None:
    kafka = load_config(env=secured.env(user)).kafka

    async def write() -> None:
        async with producer(kafka) as client:
            await client.send_and_wait(topic, b"{}", key=b"ann")

    with pytest.raises(Unavailable, match=f"does not let the user '{user}' do this .*{topic}.* SECURITY.md"):
        asyncio.run(write())


def test_who_may_only_read_lists_sees_no_events_and_no_other_topics(secured: Secured) -> None:
    kafka = load_config(env=secured.env("page")).kafka

    async def seen() -> set[str]:
        async with admin(kafka) as client:
            return set(await client.list_topics())

    assert asyncio.run(seen()) == {"recommendations"}


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("DEL", "sr:u:ann"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("GET", "other"),
    ],
)
def test_the_user_of_redis_can_do_nothing_but_what_a_worker_does(
    secured: Secured, command: tuple[str, ...]
) -> None:
    settings = load_config(env=secured.env("worker")).redis

    async def ask() -> None:
        async with redis_client.connect(settings) as client:
            await client.execute_command(*command)

    with pytest.raises(NoPermissionError):
        asyncio.run(ask())


def test_the_trainer_reads_no_state_of_a_shopper(secured: Secured) -> None:
    settings = load_config(env=secured.env("trainer")).redis

    async def ask() -> None:
        async with redis_client.connect(settings) as client:
            await client.get("sr:u:ann")

    with pytest.raises(NoPermissionError):
        asyncio.run(ask())
