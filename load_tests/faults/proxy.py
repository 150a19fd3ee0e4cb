"""A TCP proxy on loopback that can be late, mute, cut mid-reply, or gone."""

from __future__ import annotations

import asyncio
from contextlib import suppress

CHUNK_BYTES = 64 * 1024
CUT_AFTER_BYTES = 7
"""Of the next reply this much passes: less than any whole one of Kafka, of Redis with a value, or of gRPC."""


class Proxy:
    """Carry bytes between clients and one server.

    `delay_s` is added to every reply. While `mute`, connections stay open and carry nothing, as where the
    other side's machine vanished. So many of the next replies as `cuts_left` end after a few bytes, and their
    connections with them.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._heard = asyncio.Event()
        self._heard.set()
        self.port = 0
        self.delay_s = 0.0
        self.cuts_left = 0

    async def open(self) -> None:
        """Listen, on the same port each time."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no connections and reset those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._open):
            writer.transport.abort()

    @property
    def mute(self) -> bool:
        return not self._heard.is_set()

    @mute.setter
    def mute(self, wanted: bool) -> None:
        (self._heard.clear if wanted else self._heard.set)()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, server_writer}
        self._open |= both
        ways = [
            asyncio.ensure_future(self._carry(reader, server_writer, replies=False)),
            asyncio.ensure_future(self._carry(server_reader, writer, replies=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in both:
                end.transport.abort()
            self._open -= both

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._heard.wait()
                if replies and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if replies and self.cuts_left:
                    self.cuts_left -= 1
                    writer.write(data[:CUT_AFTER_BYTES])
                    await writer.drain()
                    return
                writer.write(data)
                await writer.drain()
