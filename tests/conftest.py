"""What every suite shares: the real servers, started once for the whole run."""

from collections.abc import Iterator

import pytest

from stream.local.stack import Stack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the real servers, so that `-m "not servers"` leaves it out."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.servers)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real Kafka, Redis and Triton; they end with the test run, however that ends.

    `stack.endpoints` says where they are and `stack.environment` tells it to streamrec's commands.
    Faults: `kill`, `pause`, `resume`, `stop` and `start` of one server by name. A test that leaves a
    server down or frozen must put it right again.
    """
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.up(owned=True)
        yield stack
