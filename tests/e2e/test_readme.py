"""The README's publisher and reader, run as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.servers
README = Path(__file__).parents[2] / "README.md"


def test_the_publisher_and_the_reader_of_the_readme_work_as_they_stand(run: Any, tmp_path: Path) -> None:
    publisher, reader = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert max(len(block.strip().splitlines()) for block in (publisher, reader)) <= 12

    async def body(engine: Any) -> None:
        # The snippets name the topics of the contract, so this engine uses those.
        for name in [name for name in engine.env if name.startswith("STREAMREC_TOPICS__")]:
            del engine.env[name]
        from stream.adapters.kafka_topics import create_topics
        from stream.config import load_config

        engine.config = load_config(env=engine.env)
        await create_topics(engine.config)
        await engine.worker().ready()

        async def python(code: str) -> str:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                code,
                env={**os.environ, "KAFKA": engine.config.kafka.bootstrap},
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await asyncio.wait_for(process.communicate(), 300)
            assert process.returncode == 0
            return out.decode()

        await python(publisher)
        assert (await python(reader)).startswith("ann ")

    run(body)
