"""Free ports on 127.0.0.1, and who holds one that is taken."""

import random
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"

# Below the range from which the kernel takes the ports of outgoing connections, so that a port
# kept for the next start is not lent to somebody's client meanwhile.
_FIRST, _LAST = 20_000, 32_000


def is_free(port: int) -> bool:
    """Tell whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(names: Iterable[str], taken: Iterable[int] = ()) -> dict[str, int]:
    """Choose a free port for each name, none of them in `taken`."""
    chosen: dict[str, int] = {}
    avoid = set(taken)
    for name in names:
        while True:
            port = random.randrange(_FIRST, _LAST)
            if port not in avoid and is_free(port):
                break
        chosen[name] = port
        avoid.add(port)
    return chosen


def holder(port: int) -> str | None:
    """Name the process that listens on `port`, as "redis-server (pid 12)", if it can be seen."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in sockets:
                    return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None
