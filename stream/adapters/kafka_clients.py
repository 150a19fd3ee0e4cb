"""aiokafka clients that are closed again, and say where Kafka was looked for when it is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError

from stream.errors import Unavailable

REQUEST_TIMEOUT_MS = 10_000
MAX_REQUEST_BYTES = 2_000_000


@asynccontextmanager
async def producer(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that waits for all in-sync replicas; what it still holds is sent on the way out.

    Raises:
        Unavailable: Kafka did not answer.
    """
    client = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        **{
            "acks": "all",
            "linger_ms": 2,
            "max_request_size": MAX_REQUEST_BYTES,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            **options,
        },
    )
    async with _started(client, bootstrap, client.stop):
        yield client


@asynccontextmanager
async def consumer(bootstrap: str, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer outside of any group that commits nothing. Raises as `producer`."""
    client = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        **{
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            **options,
        },
    )
    async with _started(client, bootstrap, client.stop):
        yield client


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. Raises as `producer`."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    async with _started(client, bootstrap, client.close):
        yield client


@asynccontextmanager
async def _started(client: Any, bootstrap: str, stop: Any) -> AsyncIterator[None]:
    try:
        await client.start()
        yield
    except (KafkaConnectionError, KafkaTimeoutError, ConnectionError) as error:
        raise Unavailable(
            f"Kafka did not answer at {bootstrap}: is it running? `streamrec local status` tells"
        ) from error
    except UnknownTopicOrPartitionError as error:
        raise Unavailable(
            f"Kafka at {bootstrap} does not have the topic: `streamrec topics create` makes it"
        ) from error
    except KafkaError as error:
        raise Unavailable(f"Kafka at {bootstrap} refused: {error}") from error
    finally:
        await stop()
