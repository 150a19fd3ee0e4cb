"""Questions that only a server that is ready, and is the one just started, answers rightly.

Another program may hold the port, and an open port says little: each question therefore also
asks who answers (cluster id, process id, server id) and has it do a piece of its work.
"""

import asyncio
import math
import random
from typing import Any

import msgspec

_TIMEOUT_S = 5.0
"""For one answer of a model or a worker; where everything starts at once on few cores, they come late."""


class KafkaReady(msgspec.Struct, frozen=True, tag=True):
    """Metadata from the broker with our cluster id."""

    port: int
    cluster_id: str

    async def lacks(self, pid: int) -> str | None:
        """Say what is missing, or None when the broker is ready."""
        from aiokafka.admin import AIOKafkaAdminClient
        from aiokafka.errors import KafkaError

        if not await _is_open(self.port):
            return "the port is not open"
        admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{self.port}", request_timeout_ms=2000)
        try:
            await admin.start()
            found = (await admin.describe_cluster())["cluster_id"]
        except KafkaError as error:
            return str(error)
        finally:
            await admin.close()
        return None if found == self.cluster_id else f"another cluster answers: {found}"


class RedisReady(msgspec.Struct, frozen=True, tag=True):
    """INFO from our process, with its data loaded."""

    port: int

    async def lacks(self, pid: int) -> str | None:
        """Say what is missing, or None when Redis is ready."""
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        try:
            async with Redis(host="127.0.0.1", port=self.port, socket_timeout=2.0) as redis:
                await redis.ping()
                found = (await redis.info("server"))["process_id"]
        except RedisError as error:
            return str(error)
        return None if found == pid else f"another Redis answers (pid {found})"


class TritonReady(msgspec.Struct, frozen=True, tag=True):
    """An inference from every model of our server."""

    port: int
    server_id: str

    async def lacks(self, pid: int) -> str | None:
        """Say what is missing, or None when every model answers a canary."""
        import aiohttp  # slow to load, and the command line's help must be fast

        limit = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        url = f"http://127.0.0.1:{self.port}/v2"
        try:
            async with aiohttp.ClientSession(timeout=limit, raise_for_status=True) as session:
                async with session.get(url) as answer:
                    found = (await answer.json())["name"]
                if found != self.server_id:
                    return f"another Triton answers: {found}"
                async with session.post(f"{url}/repository/index", json={"ready": True}) as answer:
                    models = {model["name"] for model in await answer.json()}
                for model in sorted(models):
                    async with session.get(f"{url}/models/{model}/config") as answer:
                        canary = _canary(await answer.json())
                    async with session.post(
                        f"{url}/models/{model}/infer", json=canary, raise_for_status=False
                    ) as answer:
                        if answer.status != 200:
                            return f"model {model}: {(await answer.text()).strip()}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return None


class WorkerReady(msgspec.Struct, frozen=True, tag=True):
    """200 from `/ready`: it has its partitions and its catalogue, so lists would be made."""

    port: int

    async def lacks(self, pid: int) -> str | None:
        """Say what is missing, or None when the worker is ready."""
        import aiohttp  # slow to load, and the command line's help must be fast

        limit = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        url = f"http://127.0.0.1:{self.port}/ready"
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(url) as answer,
            ):
                text = await answer.text()
                return None if answer.status == 200 else f"/ready says {answer.status}: {text}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"


Ready = KafkaReady | RedisReady | TritonReady | WorkerReady


async def _is_open(port: int) -> bool:
    """Tell whether anybody listens: far cheaper to ask again and again than a Kafka client is."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _canary(config: dict[str, Any]) -> dict[str, Any]:
    """Make one inference of the smallest shape that a model's configuration allows.

    No two are alike, or the server's response cache would answer for a model that is dead. Of several outputs
    the last is asked for: the reranker's asks nothing of the width of its input.
    """
    inputs = []
    for tensor in config["input"]:
        shape = [1 if int(size) < 0 else int(size) for size in tensor["dims"]]
        if config["max_batch_size"] > 0:
            shape = [1, *shape]
        count = math.prod(shape)
        kind = tensor["data_type"].removeprefix("TYPE_")
        value: float | str = random.random() if kind.startswith("FP") else 0
        if kind == "STRING":
            kind, value = "BYTES", f"ready? {random.random()}"
        inputs.append({"name": tensor["name"], "shape": shape, "datatype": kind, "data": [value] * count})
    return {"inputs": inputs, "outputs": [{"name": config["output"][-1]["name"]}]}
