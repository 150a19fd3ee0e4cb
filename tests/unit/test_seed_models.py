"""`triton/seed_models.py`: what an image brings, and what was added to the volume."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "triton" / "seed_models.py"


def write(repository: Path, version: str, said: str, code: str = "code") -> None:
    """Write a version, and what a model's versions share."""
    folder = repository / "encoder" / version
    folder.mkdir(parents=True)
    (folder / "MANIFEST.json").write_text(said)
    (folder / "model.onnx").write_text(f"weights of {said}")
    (repository / "encoder" / "config.pbtxt").write_text(code)
    (repository / "encoder" / "warmup").mkdir(exist_ok=True)
    (repository / "encoder" / "warmup" / "query").write_text(code)


def seed(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Run the script, and a command after it."""
    command = [sys.executable, str(SCRIPT), str(source), str(target), sys.executable, "-c", "print('served')"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A volume that an image with version 1 was started on."""
    write(tmp_path / "first", "1", "one")
    volume = tmp_path / "volume"
    volume.mkdir()
    assert seed(tmp_path / "first", volume).stdout == "served\n"
    return volume


def test_an_empty_volume_gets_all_that_the_image_brings(target: Path) -> None:
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert found == {
        ".seeded.json",
        "encoder/1/MANIFEST.json",
        "encoder/1/model.onnx",
        "encoder/config.pbtxt",
        "encoder/warmup/query",
    }


def test_another_image_replaces_what_an_image_brought_and_leaves_what_was_added(
    target: Path, tmp_path: Path
) -> None:
    write(target, "5", "added", code="code")
    write(tmp_path / "second", "1", "one in 16 bits", code="newer")
    write(tmp_path / "second", "2", "two", code="newer")
    assert seed(tmp_path / "second", target).stdout == "served\n"
    said = {path.parent.name: path.read_text() for path in target.glob("encoder/*/MANIFEST.json")}
    assert said == {"1": "one in 16 bits", "2": "two", "5": "added"}
    assert (target / "encoder" / "config.pbtxt").read_text() == "newer"
    assert (target / "encoder" / "warmup" / "query").read_text() == "newer"
    assert seed(tmp_path / "second", target).stdout == "served\n"


def test_an_added_version_with_the_number_of_a_brought_one_is_named_and_nothing_is_changed(
    target: Path, tmp_path: Path
) -> None:
    write(target, "2", "added")
    write(tmp_path / "second", "1", "one", code="newer")
    write(tmp_path / "second", "2", "two", code="newer")
    refused = seed(tmp_path / "second", target)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{target / 'encoder' / '2'} was added" in refused.stderr
    assert (target / "encoder" / "config.pbtxt").read_text() == "code"
