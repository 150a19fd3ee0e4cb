"""Workers of this stack: `streamrec worker` processes that get their places by environment."""

import sys
from collections.abc import Mapping
from pathlib import Path

from stream.local.ready import WorkerReady
from stream.local.server import Endpoints, Server
from stream.process.endings import START_AGAIN


def worker_settings(endpoints: Endpoints) -> dict[str, str]:
    """Return the variables that point streamrec's own commands at a stack."""
    return {
        "STREAMREC_KAFKA__BOOTSTRAP": endpoints.kafka,
        "STREAMREC_REDIS__URL": endpoints.redis,
        "STREAMREC_TRITON__URL": endpoints.triton_grpc,
    }


def worker(number: int, port: int, env: Mapping[str, str]) -> Server:
    """Return how a worker is started whose health and metrics are on `port`."""
    return Server(
        name=f"worker-{number}",
        argv=[str(Path(sys.executable).with_name("streamrec")), "worker"],
        env={**env, "STREAMREC_TELEMETRY__PORT": str(port)},
        cwd=str(Path.cwd()),
        ports={"telemetry": port},
        ready=WorkerReady(port=port),
        again_after=[*START_AGAIN],
        stop_timeout_s=12.0,  # it drains and commits within ten
    )
