"""`streamrec rules` against a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_topics import create_topics
from stream.config import load_config

pytestmark = pytest.mark.servers

PROGRAM = str(Path(sys.executable).with_name("streamrec"))
FILE = """
[[rule]]
id = "no-toys"
kind = "exclude"
where = { categories = ["Toys"] }

[[rule]]
id = "few"
kind = "cap"
limit = 3
"""


def test_rules_are_put_listed_and_removed_and_those_of_the_file_hold_again(
    stack: Any, tmp_path: Path
) -> None:
    (tmp_path / "shop.toml").write_text(FILE)
    env = {
        **stack.environment,
        "STREAMREC_TOPICS__RULES": f"rules-{uuid.uuid4().hex[:8]}",
        "STREAMREC_RULES__FILE": str(tmp_path / "shop.toml"),
    }
    config = load_config(env=env)
    asyncio.run(create_topics(config))

    def streamrec(*arguments: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROGRAM, "rules", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env={**os.environ, **env},
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        return done

    def listed() -> dict[str, tuple[Any, str]]:
        rules = json.loads(streamrec("list", "--json").stdout)
        return {rule["id"]: (rule.get("limit"), rule["from"].partition(" ")[0]) for rule in rules}

    assert listed() == {"few": (3, "file"), "no-toys": (None, "file")}
    streamrec("put", "-", stdin='{"id": "few", "kind": "cap", "limit": 2}')
    assert listed() == {"few": (2, "topic"), "no-toys": (None, "file")}
    refused = streamrec("put", "-", stdin='[{"id": "few", "kind": "cap", "limit": 1}, {"id": "x"}]', code=1)
    assert "rule 2 (x): kind: missing" in refused.stderr
    assert listed()["few"] == (2, "topic")
    streamrec("remove", "few")
    assert listed()["few"] == (3, "file")
    unknown = streamrec("remove", "few", code=2)
    assert "no such rule" in unknown.stderr

    async def damage() -> None:
        async with producer(config.kafka) as client:
            await client.send_and_wait(config.topics.rules, b"{}", key=b"odd")

    asyncio.run(damage())
    assert "skipped by workers: rule odd: kind: missing" in streamrec("list").stderr
