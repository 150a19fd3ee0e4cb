"""What the configuration of every model in Triton must keep to."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2] / "model_repository"
CONFIGS = sorted(REPOSITORY.glob("*/config.pbtxt"))


def test_all_models_are_configured() -> None:
    assert [path.parent.name for path in CONFIGS] == ["cross_encoder", "encoder", "reranker"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_no_model_has_a_queue_policy_or_priorities(path: Path) -> None:
    """With either, Triton's batcher now and then slept half a second beside an idle instance."""
    fields = "".join(line.partition("#")[0] for line in path.read_text().splitlines())
    assert "dynamic_batching" in fields
    assert "queue_policy" not in fields
    assert "priority" not in fields


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_every_model_is_warmed_up_before_it_is_ready(path: Path) -> None:
    """The reranker does so itself: only a version knows how wide its rows are."""
    by_itself = "WARM_UP_CANDIDATES" in (path.parent / "triton_model.py").read_text()
    assert ("model_warmup [" in path.read_text()) != by_itself
