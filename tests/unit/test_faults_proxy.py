"""The proxy of the fault runs is late, mute, cut or gone when told to be, and faithful otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from faults.proxy import CUT_AFTER_BYTES, Proxy

ASKED = b"x" * 100


def with_proxy(body: Callable[[Proxy], Awaitable[None]]) -> None:
    """Run a test against a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000):
            writer.write(data)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        proxy = Proxy("127.0.0.1", server.sockets[0].getsockname()[1])
        await proxy.open()
        try:
            async with asyncio.timeout(60):
                await body(proxy)
        finally:
            await proxy.close()
            server.close()

    asyncio.run(run())


async def ask(proxy: Proxy) -> bytes:
    """What comes back on a new connection until all did or it ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(ASKED)
        return await reader.readexactly(len(ASKED))
    except asyncio.IncompleteReadError as error:
        return error.partial
    finally:
        writer.transport.abort()


def test_it_carries_both_ways() -> None:
    async def body(proxy: Proxy) -> None:
        assert await ask(proxy) == ASKED

    with_proxy(body)


def test_a_reply_is_cut_once_and_the_next_is_whole() -> None:
    async def body(proxy: Proxy) -> None:
        proxy.cuts_left = 1
        with_luck = await ask_or_nothing(proxy)
        assert len(with_luck) <= CUT_AFTER_BYTES
        assert await ask(proxy) == ASKED

    with_proxy(body)


async def ask_or_nothing(proxy: Proxy) -> bytes:
    try:
        return await ask(proxy)
    except ConnectionError:  # a reset may overtake what was sent before it
        return b""


def test_while_it_is_closed_nobody_gets_in_and_afterwards_at_the_same_port() -> None:
    async def body(proxy: Proxy) -> None:
        port = proxy.port
        await proxy.close()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        await proxy.open()
        assert proxy.port == port
        assert await ask(proxy) == ASKED

    with_proxy(body)


def test_what_came_while_it_was_mute_goes_on_afterwards() -> None:
    async def body(proxy: Proxy) -> None:
        proxy.mute = True
        asked = asyncio.create_task(ask(proxy))
        await asyncio.sleep(0)
        assert not asked.done()
        proxy.mute = False
        assert await asked == ASKED

    with_proxy(body)
