"""`streamrec rules` against a real broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from streamrec_command import streamrec

from stream.adapters.kafka_clients import producer
from stream.adapters.kafka_topics import create_topics
from stream.config import load_config

pytestmark = pytest.mark.servers

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

    def rules(*arguments: str, stdin: str = "", code: int = 0) -> subprocess.CompletedProcess[bytes]:
        return streamrec("rules", *arguments, env=env, stdin=stdin, code=code)

    def listed() -> dict[str, tuple[Any, str]]:
        found = json.loads(rules("list", "--json").stdout)
        return {rule["id"]: (rule.get("limit"), rule["from"].partition(" ")[0]) for rule in found}

    assert listed() == {"few": (3, "file"), "no-toys": (None, "file")}
    rules("put", "-", stdin='{"id": "few", "kind": "cap", "limit": 2}')
    assert listed() == {"few": (2, "topic"), "no-toys": (None, "file")}
    refused = rules("put", "-", stdin='[{"id": "few", "kind": "cap", "limit": 1}, {"id": "x"}]', code=1)
    assert b"rule 2 (x): kind: missing" in refused.stderr
    assert listed()["few"] == (2, "topic")
    rules("remove", "few")
    assert listed()["few"] == (3, "file")
    unknown = rules("remove", "few", code=2)
    assert b"no such rule" in unknown.stderr

    async def damage() -> None:
        async with producer(config.kafka) as client:
            await client.send_and_wait(config.topics.rules, b"{}", key=b"odd")

    asyncio.run(damage())
    assert b"skipped by workers: rule odd: kind: missing" in rules("list").stderr
