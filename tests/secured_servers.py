"""Kafka, Redis and Triton as they run on a network: TLS, users, and the rights that SECURITY.md names."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec
import trustme
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from stream.local import kafka, ports, redis, triton
from stream.local.fetching import Fetching
from stream.local.processes import die_with_parent
from stream.local.server import Server

DOCUMENT = (Path(__file__).parents[1] / "SECURITY.md").read_text()
DEADLINE_S = 300.0
PASSWORDS = {
    name: f"{name}-its-own-password" for name in ("shop", "worker", "trainer", "page", "load", "operator")
}

_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_KAFKA = """
listeners=SECURED://127.0.0.1:{secured},TLS://127.0.0.1:{tls},PLAIN://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SECURED://127.0.0.1:{secured},TLS://127.0.0.1:{tls},PLAIN://127.0.0.1:{plain}
listener.security.protocol.map=SECURED:SASL_SSL,TLS:SSL,PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAIN
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secured.scram-sha-512.sasl.jaas.config={scram}
ssl.keystore.type=PEM
ssl.keystore.location={certificate}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
_KINDS = {"topic": 2, "group": 3, "cluster": 4}
_OPERATIONS = {"All": 2, "Read": 3, "Write": 4, "Describe": 8}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3


class Secured(NamedTuple):
    """Where the servers are, and what a client needs to be let in."""

    folder: Path
    kafka: int
    kafka_tls: int
    kafka_plain: int
    redis: int
    triton: int
    ca: str
    other_ca: str

    def env(self, user: str, **more: str) -> dict[str, str]:
        """The variables of a process that is to be this user; Kafka's password is in a file."""
        return {
            "STREAMREC_KAFKA__BOOTSTRAP": f"127.0.0.1:{self.kafka}",
            "STREAMREC_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "STREAMREC_KAFKA__USERNAME": user,
            "STREAMREC_KAFKA__PASSWORD_FILE": str(self.folder / user),
            "STREAMREC_KAFKA__CA_FILE": self.ca,
            "STREAMREC_REDIS__URL": f"rediss://127.0.0.1:{self.redis}/0",
            "STREAMREC_REDIS__TIMEOUT_MS": "30000",
            "STREAMREC_REDIS__USERNAME": (in_redis := user if user in redis_rights() else "worker"),
            "STREAMREC_REDIS__PASSWORD": PASSWORDS[in_redis],
            "STREAMREC_REDIS__CA_FILE": self.ca,
            "STREAMREC_TRITON__URL": f"127.0.0.1:{self.triton}",
            "STREAMREC_TRITON__TLS": "true",
            "STREAMREC_TRITON__CA_FILE": self.ca,
            "STREAMREC_TRITON__CERTIFICATE_FILE": str(self.folder / "client.pem"),
            "STREAMREC_TRITON__KEY_FILE": str(self.folder / "client.key"),
            **{f"STREAMREC_{name}": value for name, value in more.items()},
        }


@contextmanager
def secured_servers(folder: Path, models: Path | None = None) -> Iterator[Secured]:
    """Start the three, Triton on the checkout's models or others, and stop them at the end."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")
    for name, issued in (
        ("server", authority.issue_cert("127.0.0.1")),
        ("client", authority.issue_cert("worker@streamrec")),
    ):
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (folder / f"{name}.key").write_bytes(key_pem)
        (folder / f"{name}.pem").write_bytes(chain)
        (folder / f"{name}-both.pem").write_bytes(key_pem + chain)
    for user, password in PASSWORDS.items():
        (folder / user).write_text(password + "\n")
    at = ports.choose((*kafka.PORTS, "secured", "tls", *redis.PORTS, "rediss", *triton.PORTS))
    with ExitStack() as parts:
        started = [
            (server, parts.enter_context(running(server, folder)))
            for server in (_kafka(folder, at), _triton(folder, at, models))
        ]
        parts.enter_context(_redis(folder, at))
        for server, process in started:
            wait_until_ready(server, process, folder)
        asyncio.run(_grant(at["kafka"]))
        yield Secured(
            folder,
            at["secured"],
            at["tls"],
            at["kafka"],
            at["rediss"],
            at["triton-grpc"],
            str(folder / "ca.pem"),
            str(folder / "other-ca.pem"),
        )


def _kafka(folder: Path, at: Mapping[str, int]) -> Server:
    server = kafka.fetch(Fetching()).server(folder / "kafka", at, {})
    written = folder / "kafka" / "server.properties"
    more = _KAFKA.format(**at, scram=_SCRAM, plain=at["kafka"], certificate=folder / "server-both.pem")
    # The last of two lines of one name holds.
    written.write_text(written.read_text() + more)
    users = [
        f"SCRAM-SHA-512=[name={user},password={password}]" for user, password in sorted(PASSWORDS.items())
    ]
    assert server.before is not None
    argv = [*server.before.argv, *(word for user in users for word in ("--add-scram", user))]
    return msgspec.structs.replace(server, before=msgspec.structs.replace(server.before, argv=argv))


def _triton(folder: Path, at: Mapping[str, int], models: Path | None) -> Server:
    server = triton.fetch(models, Fetching()).server(folder / "triton", at, {})
    return msgspec.structs.replace(
        server,
        argv=[
            *server.argv,
            "--grpc-use-ssl-mutual=true",
            f"--grpc-server-cert={folder / 'server.pem'}",
            f"--grpc-server-key={folder / 'server.key'}",
            f"--grpc-root-cert={folder / 'ca.pem'}",
        ],
    )


@contextmanager
def _redis(folder: Path, at: Mapping[str, int]) -> Iterator[None]:
    """Redis with the documented users; before one that was built without TLS stands what speaks it."""
    found = redis.find()
    server = found.server(folder / "redis", at, {})
    users = [f"user {line}" for line in redis_rights().values()] + ["user default off"]
    (folder / "redis" / "users.acl").write_text("\n".join(users) + "\n")
    speaks_tls = b"tls-auth-clients" in found.program.read_bytes()
    more = ["--aclfile", "users.acl"]
    if speaks_tls:
        more += ["--tls-port", str(at["rediss"]), "--tls-auth-clients", "no"]
        more += ["--tls-cert-file", str(folder / "server.pem"), "--tls-key-file", str(folder / "server.key")]
    server = msgspec.structs.replace(server, argv=[*server.argv, *more])
    with running(server, folder) as process, ExitStack() as front:
        if not speaks_tls:
            front.enter_context(tls_before(at["redis"], at["rediss"], folder))
        _until(lambda: _answers(at["rediss"]), process, folder / "redis.log")
        yield


def worker_rights(on_cluster: bool = False) -> list[str]:
    """The worker's line of Redis' access list, as SECURITY.md has it, word by word after `user`."""
    (more,) = re.findall(r"On a Redis Cluster .* needs `(.*)` besides", DOCUMENT)
    words = redis_rights()["worker"].split()
    return words + more.split() if on_cluster else words


def redis_rights() -> dict[str, str]:
    """The lines of Redis' access list by user, as SECURITY.md has them, with these passwords."""
    lines = re.findall(r"^user ((\w+) on .*)$", DOCUMENT, flags=re.MULTILINE)
    return {user: line.replace(">PASSWORD", _hashed(PASSWORDS[user])) for line, user in lines}


def _hashed(password: str) -> str:
    return f"#{sha256(password.encode()).hexdigest()}"


@contextmanager
def tls_before(inner: int, outer: int, folder: Path) -> Iterator[None]:
    """Speak TLS on one port and pass what comes through to another, as stunnel does."""
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(folder / "server.pem", folder / "server.key")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inward, outward = await asyncio.open_connection("127.0.0.1", inner)
        await asyncio.gather(carry(reader, outward), carry(inward, writer))

    loop = asyncio.new_event_loop()
    listening = asyncio.start_server(pass_on, "127.0.0.1", outer, ssl=offered)
    loop.run_until_complete(listening)
    loop.set_exception_handler(lambda *_: None)  # refused handshakes are what the tests are about
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def running(server: Server, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    log = (folder / f"{server.name}.log").open("ab")

    def start(argv: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv,
            env=server.env,
            cwd=server.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(),
        )

    if server.before is not None:
        assert start(server.before.argv).wait(DEADLINE_S) == 0, _end_of(folder, server.name)
    process = start(server.argv)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(server: Server, process: subprocess.Popen[bytes], folder: Path) -> None:
    async def is_ready() -> bool:
        return await server.ready.lacks(process.pid) is None

    _until(is_ready, process, folder / f"{server.name}.log")


def _until(condition: Callable[[], Awaitable[bool]], process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not asyncio.run(condition()):  # type: ignore[arg-type]
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end_s, log.read_text()[-3000:]


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await asyncio.sleep(0.05)
        return False
    writer.close()
    return True


def _end_of(folder: Path, name: str) -> str:
    return (folder / f"{name}.log").read_text()[-3000:]


def documented_rights() -> list[tuple[str, str, str, str]]:
    """User, operation, kind of resource and its name, as SECURITY.md lists them."""
    rows = re.findall(
        r"^\| (\w+) \| (All|Read|Write|Describe) \| (topic|group|cluster) \| (.+?) \|$",
        DOCUMENT,
        re.MULTILINE,
    )
    return [(user, what, kind, name) for user, what, kind, names in rows for name in names.split(", ")]


async def _grant(port: int) -> None:
    client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
    await client.bootstrap()
    try:
        for user, what, kind, name in documented_rights():
            prefixed = name.endswith("*") and name != "*"
            request = CreateAclsRequest(
                _KINDS[kind],
                name.rstrip("*") if prefixed else name,
                _PREFIXED if prefixed else _LITERAL,
                f"User:{user}",
                "*",
                _OPERATIONS[what],
                _ALLOW,
            )
            node = client.get_random_node()
            await client.ready(node)
            answer = await client.send(node, request)
            assert answer.creation_responses[0][0] == 0, answer
    finally:
        await client.close()
