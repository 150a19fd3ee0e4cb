"""The client of a Redis Cluster: bounded, in words of our own, otherwise the library's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self, cast
from urllib.parse import urlsplit

from redis.asyncio.cluster import ClusterNode, ClusterPipeline, RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisClusterException
from redis.maint_notifications import MaintNotificationsConfig

from stream.config import Redis as RedisSettings

TRIES_MORE = 1
"""What fails is tried again after asking who serves which slots now; all that is sent may be sent twice."""


class Cluster(RedisCluster):
    """A client of all masters of a cluster, found by asking any node that the URL names.

    Args:
        kind: makes the kind of connection to use from the library's own.
        max_connections: to each node; half of them for pipelines, half for single commands. A pipeline whose
            commands are sent elsewhere waits for one of the second half, so that none waits for its like.
        timeout_s: how long a connection, and an answer, are waited for.
    """

    def __init__(
        self,
        redis: RedisSettings,
        kind: Callable[[type[AbstractConnection]], type[AbstractConnection]],
        max_connections: int,
        timeout_s: float,
    ) -> None:
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes_of(redis.url)],
            username=redis.username or None,
            password=redis.password.reveal() or None,
            ssl=redis.url.startswith("rediss:"),
            retry=Retry(NoBackoff(), TRIES_MORE),
            max_connections=max_connections + 1,  # one more asks who serves which slots
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=15,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        made = kind(self.connection_kwargs["connection_class"])
        self.connection_kwargs["connection_class"] = made
        for node in self.nodes_manager.startup_nodes.values():
            node.connection_class = cast(type[Connection], made)
        self._username = redis.username or "default"
        self._timeout_s = timeout_s
        self._commands = asyncio.Semaphore(max_connections // 2)
        self._pipelines = asyncio.Semaphore(max_connections // 2)

    async def __aenter__(self) -> Self:
        """Begin without a connection, as the client of one Redis does."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self.aclose()

    async def initialize(self, *args: Any, **kwargs: Any) -> Self:
        """Ask who serves which slots.

        Raises:
            redis.exceptions.ConnectionError: no node answered, or what answers is no cluster.
        """
        try:
            await super().initialize(*args, **kwargs)
        except RedisClusterException as error:
            raise RedisConnectionError(self._why(error)) from error
        return self

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send one command where its key is."""
        async with self._turn(self._commands):
            return await super().execute_command(*args, **kwargs)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        """Make a pipeline, which sends to all masters at once; there are no transactions."""
        return _Pipeline(self)  # type: ignore[abstract]

    @asynccontextmanager
    async def _turn(self, connections: asyncio.Semaphore) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                await connections.acquire()
        except TimeoutError:
            raise RedisConnectionError("all connections to the cluster were in use") from None
        try:
            yield
        finally:
            connections.release()

    def _why(self, error: RedisClusterException) -> str:
        """What the library found at the last node that it asked."""
        cause = error.__cause__
        if not isinstance(cause, RedisClusterException):
            return str(cause or error)
        if isinstance(cause.__context__, NoPermissionError):
            return (
                f"Redis does not let the user {self._username!r} ask for the cluster's slots: SECURITY.md "
                f"names the rights that are needed ({cause.__context__})"
            )
        return f"it is no cluster: set redis.cluster to false ({cause.__context__ or cause})"


class _Pipeline(ClusterPipeline):
    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        client = cast(Cluster, self.cluster_client)
        async with client._turn(client._pipelines):
            return list(await super().execute(raise_on_error, allow_redirections))


def nodes_of(url: str) -> list[tuple[str, int]]:
    """Hosts and ports of a URL that names several, with commas between them."""
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    parts = [urlsplit(f"//{host}") for host in hosts]
    return [(part.hostname or "127.0.0.1", part.port or 6379) for part in parts]
