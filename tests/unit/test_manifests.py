"""The model files in the repository are those their manifests speak of."""

import hashlib
import json
from pathlib import Path

import pytest

from stream.models import manifest

MODELS = Path(__file__).parents[2] / "model_repository"
MANIFESTS = sorted(MODELS.glob("*/*/MANIFEST.json"))
MAX_BYTES = 80_000_000


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(MODELS)))
def test_every_file_is_the_one_in_its_manifest(path: Path) -> None:
    told = json.loads(path.read_text())
    assert {"origin", "licence", "made", "figures", "files"} <= told.keys()
    for name, said in told["files"].items():
        content = (path.parent / name).read_bytes()
        assert len(content) == said["bytes"]
        assert hashlib.sha256(content).hexdigest() == said["sha256"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(MODELS)))
def test_a_manifest_speaks_of_every_file_and_says_what_the_model_answers(path: Path) -> None:
    assert manifest.faults(path.parent) == []
    assert manifest.read(path.parent).canary is not None


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(MODELS)))
def test_every_model_card_is_made_of_its_manifest(path: Path) -> None:
    model, version = path.parts[-3:-1]
    card = manifest.card(model, version, manifest.read(path.parent))
    assert (path.parent / manifest.CARD).read_text() == card


def test_no_model_is_without_a_manifest() -> None:
    assert {path.parent for path in MANIFESTS} == {path.parent for path in MODELS.glob("*/*/model.py")}


def test_the_model_files_together_stay_small() -> None:
    files = [path for path in MODELS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
