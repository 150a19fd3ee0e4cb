"""Nothing that is read can bring code with it: no pickle and the like in anything that ships."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(
    path
    for folder in ("stream", "triton", "model_repository", "load_tests", "scripts")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
CARRY_CODE = {
    *("pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "copyreg"),
    *("jsonpickle", "yaml", "runpy"),
}
RUN_TEXT = {"eval", "exec", "compile", "__import__"}


def faults(source: str) -> list[str]:
    """What of a module could run what it reads, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            given = {one.arg: one.value for one in node.keywords}
            called = ast.unparse(node.func)
            if called in RUN_TEXT:
                found.append(f"{node.lineno}: {called}")
            if called in {"np.load", "numpy.load"} and not _is(given.get("allow_pickle"), False):
                found.append(f"{node.lineno}: {called} without allow_pickle=False")
            if called == "torch.load" and not _is(given.get("weights_only"), True):
                found.append(f"{node.lineno}: {called} without weights_only=True")
            if called in {"os.system", "os.popen"} or not _is(given.get("shell", ast.Constant(False)), False):
                found.append(f"{node.lineno}: {called} in a shell")
        found += [f"{node.lineno}: {name}" for name in names if name.split(".")[0] in CARRY_CODE]
    return found


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("module", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_ships_runs_nothing_that_it_reads(module: Path) -> None:
    assert faults(module.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import yaml",
        "eval(x)",
        "exec(x)",
        "np.load(x)",
        "np.load(x, allow_pickle=True)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "subprocess.run(x, shell=True)",
        "os.system(x)",
    ],
)
def test_what_could_run_would_be_noticed(line: str) -> None:
    assert len(faults(f"{line}\n")) == 1


@pytest.mark.parametrize("line", ["np.load(x, allow_pickle=False)", "model.eval()", "re.compile(x)"])
def test_what_only_looks_like_it_is_let_be(line: str) -> None:
    assert faults(f"{line}\n") == []
