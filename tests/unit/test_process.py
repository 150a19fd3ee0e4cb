"""How a process that works until it is told to stop is told, and what it says of its port."""

import asyncio
import os
import signal
import socket
from contextlib import AsyncExitStack

import pytest

from stream.process.life import listen, run_until_closed, stop_on_signals
from stream.process.progress import Progress
from stream.telemetry.metrics import StatusServer, Telemetry


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_is_an_event_and_not_the_end(number: signal.Signals) -> None:
    async def told() -> None:
        stop = stop_on_signals()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 30)

    asyncio.run(told())


def test_a_taken_port_is_told_with_the_setting_to_change(caplog: pytest.LogCaptureFixture) -> None:
    async def listens(port: int) -> bool:
        status = StatusServer(Telemetry(), list, Progress(lambda: 0.0, 1.0))
        async with AsyncExitStack() as parts:
            return await listen(parts, status, "127.0.0.1", port, "trainer.port")

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not asyncio.run(listens(port))
    assert f"127.0.0.1:{port}" in caplog.text
    assert "set trainer.port to a free port" in caplog.text


def test_a_task_ends_when_the_parts_close() -> None:
    async def run() -> list[str]:
        said = []
        began = asyncio.Event()

        async def work() -> None:
            try:
                began.set()
                await asyncio.Event().wait()
            finally:
                said.append("ended")

        async with AsyncExitStack() as parts:
            run_until_closed(parts, work())
            await began.wait()
        return said

    assert asyncio.run(run()) == ["ended"]


@pytest.mark.parametrize("ending", [asyncio.CancelledError(), ValueError("a fault")])
def test_a_part_that_ends_by_itself_says_so_and_one_that_is_closed_does_not(
    ending: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing() -> None:
        raise ending

    async def working() -> None:
        await asyncio.Event().wait()

    async def go() -> None:
        async with AsyncExitStack() as parts:
            run_until_closed(parts, failing())
            run_until_closed(parts, working())
            await asyncio.sleep(0.01)

    asyncio.run(go())
    assert [record.message for record in caplog.records if "failing" in record.message]
    assert not [record.message for record in caplog.records if "working" in record.message]
