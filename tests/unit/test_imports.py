"""Imports point inward: core, then ports and use cases, then everything that does I/O."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

STREAM = Path(__file__).parents[2] / "stream"
CORE = sorted(STREAM.glob("core/**/*.py"))
SHELL = {"standing_lists", "marked_commits"}
"""What lies beside use cases and speaks to Kafka."""
USE_CASES = [
    STREAM / "ports.py",
    STREAM / "models" / "model_versions.py",
    STREAM / "process" / "progress.py",
    *(
        path
        for folder in ("catalog", "healing", "lists", "signals")
        for path in sorted((STREAM / folder).glob("*.py"))
        if path.stem not in SHELL
    ),
]
IMPURE = {
    "asyncio",
    "http",
    "io",
    "logging",
    "os",
    "pathlib",
    "random",
    "socket",
    "threading",
    "time",
}
"""What the core does without, of the standard library. `datetime` it needs, to read times, not the clock."""


@pytest.mark.parametrize("module", CORE, ids=lambda path: path.stem)
def test_the_core_imports_itself_and_arithmetic_only(module: Path) -> None:
    for name in imported(module):
        top = name.split(".")[0]
        if top == "stream":
            assert name.startswith("stream.core") or name == "stream.errors", name
        elif top not in sys.stdlib_module_names:
            assert top in {"msgspec", "numpy"}, name


@pytest.mark.parametrize("module", CORE, ids=lambda path: path.stem)
def test_the_core_has_no_clock_no_io_no_log_and_no_async(module: Path) -> None:
    tree = ast.parse(module.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    assert imported(module) & IMPURE == set()
    calls = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not calls & {"now", "utcnow", "today"}


def _name(path: Path) -> str:
    """What a module is called within the package."""
    return ".".join(path.relative_to(STREAM).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("module", USE_CASES, ids=lambda path: path.stem)
def test_use_cases_know_ports_and_no_adapter(module: Path) -> None:
    inner = ("core", "errors", "privacy.pseudonyms", "telemetry.metrics", *map(_name, USE_CASES))
    for name in imported(module):
        if name.startswith("stream."):
            assert name.removeprefix("stream.").startswith(inner), name
        else:
            assert name.split(".")[0] not in {"aiohttp", "aiokafka", "faust", "redis", "tritonclient"}, name


FIND_TRITON = """
import importlib.util
found = importlib.util.find_spec("triton")
print("none" if found is None else found.origin or "folder")
"""


def _told(*command: str, **env: str) -> str:
    """What a command says when it is run in the repository's root."""
    return subprocess.run(
        command,
        cwd=STREAM.parent,
        env={**os.environ, **env},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_the_folder_triton_does_not_shadow_the_package_of_that_name() -> None:
    """PyPI's triton, which torch looks for, must be found as it is or not at all."""
    found = _told(sys.executable, "-c", FIND_TRITON, PYTHONSAFEPATH="1")
    assert found == "none" or "site-packages" in found


def test_a_program_that_is_installed_does_not_see_the_folder_triton_either(tmp_path: Path) -> None:
    """As a console script: the path begins with the script's folder, not with the working one."""
    script = tmp_path / "script.py"
    script.write_text("import stream.worker, model_factory\n" + FIND_TRITON)
    found = _told(sys.executable, str(script))
    assert found == "none" or "site-packages" in found


def test_these_tests_do_not_see_the_folder_triton() -> None:
    assert str(STREAM.parent) not in sys.path
    assert "" not in sys.path


def imported(module: Path) -> set[str]:
    """The modules that a module imports anywhere in it."""
    return set(_imported(ast.parse(module.read_text())))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "stream")
