"""Kafka: one KRaft node from Maven Central's jars, without ZooKeeper and without Docker."""

import base64
import os
import sys
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stream.errors import LocalStackError
from stream.local import cache, ports
from stream.local.fetching import Fetching
from stream.local.java import find_java
from stream.local.ready import KafkaReady
from stream.local.server import Once, Server

# Every jar with its sha256, as jgo resolved org.apache.kafka:kafka_2.13 and the log4j binding for
# the SLF4J it brings (without one the broker logs nothing). Pinned, a start walks no POMs.
_LOCK = Path(__file__).with_name("kafka.lock")

PORTS = ("kafka", "controller")

_JVM = [
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
]

# Both run in the broker's folder, so its path, however odd, is in no setting.
_BROKER = ["kafka.Kafka", "server.properties"]
_FORMAT = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-c", "server.properties", "-t"]

_AOT_JAVA = 25  # the first that writes an ahead-of-time cache in one go (JEP 514)
_ARCHIVE = "start.aot"

_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{kafka}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=9000
log.cleaner.dedupe.buffer.size=8388608
"""

_LOGGING = """\
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %m (%c{1})%n
"""


@dataclass(frozen=True)
class Kafka:
    """A broker that is fetched and can be started."""

    java: Path
    jars: Path
    aot_cache: Path | None = None

    def server(self, folder: Path, at: Mapping[str, int], env: Mapping[str, str]) -> Server:
        """Write the broker's settings into `folder` and return how it is started there."""
        _write_settings(folder, at)
        formatted = folder / "data" / "meta.properties"
        cluster_id = _cluster_id(formatted)
        aot = [f"-XX:AOTCache={self.aot_cache}"] if self.aot_cache else []
        command = _java_command(self.java, self.jars, *aot)
        return Server(
            name="kafka",
            argv=[*command, *_BROKER],
            env=dict(env),
            cwd=str(folder),
            ports={name: at[name] for name in PORTS},
            ready=KafkaReady(port=at["kafka"], cluster_id=cluster_id),
            before=Once(argv=[*command, *_FORMAT, cluster_id], unless_exists=str(formatted)),
        )


def fetch(fetching: Fetching) -> Kafka:
    """Find Java, and have the jars in the cache.

    Raises:
        LocalStackError: no Java, or a jar could not be fetched or is not the pinned one.
    """
    java = find_java()
    pins = _LOCK.read_text()
    home = cache.cache_folder()
    jars = cache.built(
        home / f"kafka-{cache.key(pins)}", lambda folder: _download(folder, fetching), fetching
    )
    if java.release < _AOT_JAVA:
        return Kafka(java.program, jars)
    rehearsed = cache.built(
        home / f"kafka-aot-{cache.key(pins, java.build, _JVM)}",
        lambda folder: _rehearse(folder, java.program, jars, fetching),
        fetching,
    )
    archive = rehearsed / _ARCHIVE
    return Kafka(java.program, jars, archive if archive.exists() else None)


def _rehearse(folder: Path, java: Path, jars: Path, fetching: Fetching) -> None:
    """Start a broker once and keep what its JVM loaded, so that later starts take half the time.

    A broker that cannot be rehearsed leaves no archive, and later starts go without.
    """
    with (
        fetching.step("Kafka's start") as step,
        tempfile.TemporaryDirectory(dir=folder) as scratch,
        suppress(LocalStackError),
    ):
        _write_settings(Path(scratch), ports.choose(PORTS))
        for argv in (
            [*_java_command(java, jars), *_FORMAT, _new_cluster_id()],
            [*_java_command(java, jars, f"-XX:AOTCacheOutput={folder / _ARCHIVE}"), *_BROKER],
        ):
            fetching.run(
                argv,
                failed="Kafka could not be rehearsed",
                step=step,
                cwd=Path(scratch),
                end_at="Kafka Server started",
                timeout_s=180.0,
            )
    fetching.go_on()


def _write_settings(folder: Path, at: Mapping[str, int]) -> None:
    """Write what the broker reads in its working folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.properties").write_text(_SETTINGS.format(**at))
    (folder / "log4j2.properties").write_text(_LOGGING)


def _java_command(java: Path, jars: Path, *options: str) -> list[str]:
    """Return the beginning of a command that runs one of the broker's classes in its folder."""
    classpath = os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))
    return [str(java), *_JVM, *options, "-Dlog4j2.configurationFile=log4j2.properties", "-cp", classpath]


def _download(folder: Path, fetching: Fetching) -> None:
    """Fetch the pinned jars from Maven Central into `folder`."""
    with fetching.step("Kafka", total=len(_LOCK.read_text().splitlines())) as step:
        fetching.run(
            [sys.executable, "-P", "-m", "stream.local.jars", str(_LOCK), str(folder)],
            failed="Kafka's jars could not be fetched",
            step=step,
            counted=True,
        )


def _cluster_id(formatted: Path) -> str:
    """Return the id in `meta.properties`, or a new one if nothing was formatted yet."""
    if formatted.exists():
        for line in formatted.read_text().splitlines():
            if line.startswith("cluster.id="):
                return line.removeprefix("cluster.id=")
    return _new_cluster_id()


def _new_cluster_id() -> str:
    """Return 22 characters of base64 that never begin with a "-"."""
    return "sr" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:20]
