"""The Tritons that `triton.url` names: one, or several with the same models."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tritonclient.grpc.aio import InferenceServerClient

from stream.adapters import tls
from stream.config import Triton


class Server(NamedTuple):
    """One Triton, and its address as host:port."""

    address: str
    client: InferenceServerClient


class Servers(tuple[Server, ...]):
    """All of them, in the order of the settings."""

    async def close(self) -> None:
        """Close the connections to all."""
        await asyncio.gather(*(server.client.close() for server in self))


def connect(triton: Triton) -> Servers:
    """Make clients of the servers; to be called in the running event loop.

    Reconnecting backs off to one second at most, so that a server that is back is soon noticed.

    Raises:
        ConfigError: a certificate cannot be used.
    """
    if triton.tls:
        tls.context(triton, tls.TRITON)  # gRPC reads the same files and does not say what is wrong with them
    return Servers(Server(address, _client(triton, address)) for address in addresses(triton))


def addresses(triton: Triton) -> list[str]:
    """The addresses that the settings name, each once."""
    return list(dict.fromkeys(part.strip() for part in triton.url.split(",")))


def _client(triton: Triton, address: str) -> InferenceServerClient:
    return InferenceServerClient(
        address,
        ssl=triton.tls,
        root_certificates=triton.ca_file or None,
        private_key=triton.key_file or None,
        certificate_chain=triton.certificate_file or None,
        channel_args=[
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ],
    )
