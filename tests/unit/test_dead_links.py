"""The check of links in documents finds what leads nowhere, and nothing else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "dead_links.py"


@pytest.fixture
def checker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dead_links", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("[a](other.md)", []),
        ("[a](/other.md) and [b](folder/)", []),
        ("[a](other.md#the-second-part)", []),
        ("[a](https://example.org/nowhere)", []),
        ("`[a](nowhere.md)`", []),
        ("```\n[a](nowhere.md)\n```", []),
        ("# Here\n[a](#here)", []),
        ("[a](nowhere.md)", ["no such file"]),
        ("![picture](folder/nowhere.png)", ["no such file"]),
        ("[a](other.md#nowhere)", ["no such heading"]),
        ("[a](#nowhere)", ["no such heading"]),
    ],
)
def test_links_are_followed_to_files_and_headings(
    checker: ModuleType, tmp_path: Path, text: str, reasons: list[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.md").write_text("# First\n\n## The `second` part!\n")
    document = tmp_path / "document.md"
    document.write_text(text)
    assert [line.rpartition(": ")[2] for line in checker.dead_links(document)] == reasons


def test_a_dead_link_is_told_with_its_line(checker: ModuleType, tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("one\n\n[two](nowhere.md)\n")
    assert checker.dead_links(document) == ["document.md:3: nowhere.md: no such file"]
