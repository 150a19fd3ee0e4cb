"""A worker whose consumer passes over messages: `python skipping_worker.py`.

What is fetched of the shopper `overlooked` is dropped when it is fetched for the first time, as it may be
while partitions change hands: the consumer's position is behind it, and no agent was given it.
"""

from __future__ import annotations

from typing import Any

from faust.transport.drivers import aiokafka as driver

from stream.config import load_config
from stream.worker import run_worker


def pass_over_what_is_fetched_first() -> None:
    """Drop the records of one shopper once."""
    sound = driver.AIOKafkaConsumerThread._fetch_records
    dropped = set()

    async def fetch(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = await sound(self, *args, **kwargs)
        for tp, records in found.items():
            missed = {
                (tp, record.offset)
                for record in records
                if record.key == b"overlooked" and (tp, record.offset) not in dropped
            }
            found[tp] = [record for record in records if (tp, record.offset) not in missed]
            dropped.update(missed)
        return found

    driver.AIOKafkaConsumerThread._fetch_records = fetch


if __name__ == "__main__":
    pass_over_what_is_fetched_first()
    raise SystemExit(run_worker(load_config()))
