"""aiokafka clients: how each is secured, closed again, and says where and why Kafka was not to be had."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from stream.adapters import kafka_records, tls
from stream.config import Kafka
from stream.errors import Unavailable

REQUEST_TIMEOUT_MS = 10_000
MAX_REQUEST_BYTES = 2_000_000
EXPLAIN_S = 5.0
SASL_MECHANISM = "SCRAM-SHA-512"
ISOLATION = "read_committed"
"""What a transaction that was aborted held was never said, and what an open one holds is not said yet."""

kafka_records.tolerate()  # whatever reads Kafka comes by this module


def connection(kafka: Kafka) -> dict[str, Any]:
    """The arguments by which every aiokafka client reaches the brokers.

    Raises:
        ConfigError: a certificate cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = tls.context(kafka, tls.KAFKA)
    if kafka.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = SASL_MECHANISM
        options["sasl_plain_username"] = kafka.username
        options["sasl_plain_password"] = kafka.password.reveal()
    return options


@asynccontextmanager
async def producer(kafka: Kafka, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that waits for all in-sync replicas; what it still holds is sent on the way out.

    Raises:
        Unavailable: Kafka did not answer.
    """
    client = AIOKafkaProducer(
        **connection(kafka),
        **{
            "acks": "all",
            "linger_ms": 2,
            "max_request_size": MAX_REQUEST_BYTES,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            **options,
        },
    )
    async with _started(client, kafka, client.stop):
        yield client


@asynccontextmanager
async def consumer(kafka: Kafka, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside of any group that commits nothing. Raises as `producer`."""
    client = AIOKafkaConsumer(
        *topics,
        **connection(kafka),
        **{
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "isolation_level": ISOLATION,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            **options,
        },
    )
    async with _started(client, kafka, client.stop):
        yield client


@asynccontextmanager
async def admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. Raises as `producer`."""
    client = AIOKafkaAdminClient(**connection(kafka), request_timeout_ms=REQUEST_TIMEOUT_MS)
    async with _started(client, kafka, client.close):
        yield client


@asynccontextmanager
async def _started(client: Any, kafka: Kafka, stop: Any) -> AsyncIterator[None]:
    try:
        await client.start()
        yield
    except (KafkaConnectionError, KafkaTimeoutError, ConnectionError) as error:
        raise Unavailable(await why_away(kafka)) from error
    except UnknownTopicOrPartitionError as error:
        raise Unavailable(
            f"Kafka at {kafka.bootstrap} does not have the topic: `streamrec topics create` makes it"
        ) from error
    except (
        TopicAuthorizationFailedError,
        GroupAuthorizationFailedError,
        ClusterAuthorizationFailedError,
    ) as error:
        raise Unavailable(
            f"Kafka at {kafka.bootstrap} does not let the user {kafka.username or 'ANONYMOUS'!r} do this "
            f"({error}): SECURITY.md lists the rights that each user needs"
        ) from error
    except KafkaError as error:
        raise Unavailable(f"Kafka at {kafka.bootstrap} refused: {error}") from error
    finally:
        await stopped(stop)


async def stopped(stop: Callable[[], Awaitable[None]]) -> None:
    """Stop a client.

    aiokafka's consumer cancels its requests and awaits each. One that had not begun passes its cancellation
    on to whoever stops the consumer, and that task would end without a word, though nobody cancelled it.
    """
    stopping = asyncio.ensure_future(stop())
    await asyncio.wait({stopping})
    if not stopping.cancelled():
        stopping.result()


async def why_away(kafka: Kafka) -> str:
    """Say why Kafka cannot be used: it does not answer, or it does and refuses, and what would cure that."""
    for address in kafka.bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        with suppress(ValueError):
            reason = await _refusal(kafka, host.strip("[]"), int(port))
            if reason is not None:
                return f"Kafka at {address.strip()} cannot be used: {reason}"
    return f"Kafka did not answer at {kafka.bootstrap}: is it running? `streamrec local status` tells"


async def _refusal(kafka: Kafka, host: str, port: int) -> str | None:
    """Why a broker refuses us; None where it does not, or is not there at all."""
    options = {name: value for name, value in connection(kafka).items() if name != "bootstrap_servers"}
    try:
        async with asyncio.timeout(EXPLAIN_S):
            broker = await create_conn(host, port, **options)
            try:
                await broker.send(MetadataRequest([]))
            finally:
                broker.close()
    except SaslAuthenticationFailed:
        return (
            f"it refused the user {kafka.username!r}: kafka.username or kafka.password is wrong, or the "
            f"broker has no such user for {SASL_MECHANISM}"
        )
    except IllegalSaslStateError:
        return "it asks for no user on this port: set kafka.security_protocol to PLAINTEXT or SSL"
    except UnsupportedSaslMechanismError:
        return f"it does not know {SASL_MECHANISM}: enable that in its sasl.enabled.mechanisms"
    except (OSError, KafkaError, TimeoutError):
        reason = await tls.misunderstanding(host, port, options.get("ssl_context"), tls.KAFKA)
        if reason is None and await _is_open(host, port) and not kafka.username:
            reason = "it hangs up on us: where it asks for a user, set kafka.security_protocol to SASL_SSL"
        return reason
    return None


async def _is_open(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(EXPLAIN_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
