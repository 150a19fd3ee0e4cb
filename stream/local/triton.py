"""Triton: the server in the nvidia-pytriton wheel, with an execution environment of its own.

Triton runs our models in its Python backend. The backend's stub process has the interpreter
linked in and takes its packages from the first `python3` on the PATH: the environment built here
stands there, so no model configuration has to name a path of this machine.
"""

import os
import shutil
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stream.errors import LocalStackError
from stream.local import cache
from stream.local.fetching import Fetching
from stream.local.libpython import PYTHON, find_libpython
from stream.local.ready import TritonReady
from stream.local.server import Server

PORTS = ("triton-http", "triton-grpc", "triton-metrics")

WHEEL = "nvidia-pytriton==0.7.0"  # Triton 2.51

_PIP = ["-P", "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--progress-bar=off"]
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Triton:
    """A Triton that is fetched and can be started on a model repository."""

    server_folder: Path
    environment: Path
    models: Path

    def server(self, folder: Path, at: Mapping[str, int], env: Mapping[str, str]) -> Server:
        """Return how Triton is started; it loads every model of the repository, or says which it cannot."""
        server_id = f"streamrec-{cache.key(folder)}"
        arguments = {
            "id": server_id,
            "model-repository": self.models,
            "model-control-mode": "explicit",  # later versions are loaded by name, under traffic
            "load-model": "*",
            "strict-readiness": "false",  # one broken version does not make the server unready
            "backend-directory": self.server_folder / "backends",
            "backend-config": f"python,shm-region-prefix-name={server_id}-",
            "cache-directory": self.server_folder / "caches",
            "cache-config": f"local,size={64 * 1024 * 1024}",
            "exit-timeout-secs": 5,
            "http-address": "127.0.0.1",
            "http-port": at["triton-http"],
            "grpc-address": "127.0.0.1",
            "grpc-port": at["triton-grpc"],
            "metrics-address": "127.0.0.1",
            "metrics-port": at["triton-metrics"],
        }
        libraries = [str(self.environment / "libpython"), env.get("LD_LIBRARY_PATH")]
        return Server(
            name="triton",
            argv=[
                str(self.server_folder / "bin" / "tritonserver"),
                *(f"--{name}={value}" for name, value in arguments.items()),
            ],
            env={
                **env,
                "PATH": f"{self.environment / 'bin'}:{env.get('PATH', os.defpath)}",
                "LD_LIBRARY_PATH": ":".join(filter(None, libraries)),
            },
            cwd="/",  # never a folder that holds `triton/`, which would shadow the package
            ports={name: at[name] for name in PORTS},
            ready=TritonReady(port=at["triton-http"], server_id=server_id),
            scratch=f"/dev/shm/{server_id}-*",
        )


def fetch(models: Path | None, fetching: Fetching) -> Triton:
    """Have the server and its execution environment in the cache.

    Args:
        models: the model repository; None for the checkout's.

    Raises:
        LocalStackError: something is missing or could not be fetched.
    """
    models = models or _ROOT / "model_repository"
    if not any(models.glob("*/config.pbtxt")):
        raise LocalStackError(f"There are no models in {models}: name a model repository with --models.")
    requirements = _ROOT / "triton" / "requirements.txt"
    if not requirements.exists():
        raise LocalStackError(
            f"{requirements} is missing: the local stack runs from a checkout of the repository."
        )
    home = cache.cache_folder()
    python = (sys.version_info[:3], sys.base_prefix)
    server = home / f"triton-{cache.key(WHEEL, PYTHON)}"
    environment = home / f"triton-env-{cache.key(requirements.read_text(), *python)}"
    cache.built(server, lambda folder: _install_server(folder, fetching), fetching)
    cache.built(environment, lambda folder: _install_environment(folder, requirements, fetching), fetching)
    return Triton(server / "pytriton" / "tritonserver", environment, models.resolve())


def _install_server(folder: Path, fetching: Fetching) -> None:
    """Install the wheel and put the stub of our Python where the backend looks for it."""
    with fetching.step("Triton") as step:
        fetching.run(
            [sys.executable, *_PIP, "--target", str(folder), WHEEL],
            failed=f"{WHEEL} could not be installed; it needs Linux with glibc 2.35 or newer",
            step=step,
        )
        tritonserver = folder / "pytriton" / "tritonserver"
        stub = tritonserver / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
        shutil.copy2(stub, tritonserver / "backends" / "python")


def _install_environment(folder: Path, requirements: Path, fetching: Fetching) -> None:
    """Make the environment that the models run in, with libpython beside it."""
    libpython = find_libpython(fetching)
    with fetching.step("model environment") as step:
        venv.create(folder, symlinks=True)
        fetching.run(
            [sys.executable, *_PIP, "--target", str(_packages(folder)), "-r", str(requirements)],
            failed="The environment of the models could not be installed",
            step=step,
        )
        (folder / "libpython").mkdir()
        (folder / "libpython" / libpython.name).symlink_to(libpython)


def _packages(environment: Path) -> Path:
    return environment / "lib" / f"python{PYTHON}" / "site-packages"
