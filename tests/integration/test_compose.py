"""docker-compose.yml and the Dockerfiles: read by the real Compose, and true of this project.

There is no Docker here, so no image is built. What can be known without one is checked: Compose accepts the
file, and every command, setting, path, port, model and flag that it names is one the project has.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from deployment import PROJECT, ROOT, USAGE_ERROR, Service, Services, compose, dockerfile, flags, parse
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import stream.worker
from stream.config import Config, load_with_origin
from stream.local import kafka
from stream.local.ports import choose
from stream.local.redis import Redis
from stream.local.stack import Stack
from stream.local.triton import Triton
from stream.process.progress import At, Progress, Standing, Work
from stream.telemetry.metrics import StatusServer, Telemetry

EVERYTHING = ("cpu", "gpu", "demo", "trainer", "monitoring")
STREAMREC_IMAGE = f"streamrec:{PROJECT['version']}"
TRITON_IMAGE = f"streamrec-triton:{PROJECT['version']}"
TRITON_GPU_IMAGE = f"{TRITON_IMAGE}-gpu"
PROMETHEUS_IMAGE = f"streamrec-prometheus:{PROJECT['version']}"
GRAFANA_IMAGE = f"streamrec-grafana:{PROJECT['version']}"
OURS = [STREAMREC_IMAGE, TRITON_IMAGE, TRITON_GPU_IMAGE, PROMETHEUS_IMAGE, GRAFANA_IMAGE]


@pytest.fixture(scope="module")
def services() -> Services:
    return compose(*EVERYTHING)


def seconds(duration: str) -> float:
    """Read "1m30s"."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)(ms|[hms])", duration))


# What is started when


@pytest.mark.parametrize(
    ("profiles", "started"),
    [
        ((), {"kafka", "redis", "topics", "catalogue", "worker", "triton"}),
        (("gpu",), {"kafka", "redis", "topics", "catalogue", "worker", "triton-gpu"}),
        (("demo",), {"kafka", "redis", "topics", "catalogue", "worker", "triton", "demo"}),
        (("trainer",), {"kafka", "redis", "topics", "catalogue", "worker", "triton", "trainer"}),
        (
            ("cpu", "monitoring"),
            {"kafka", "redis", "topics", "catalogue", "worker", "triton", "prometheus", "grafana"},
        ),
    ],
)
def test_a_profile_starts_one_triton_and_the_demo_only_when_asked_for(
    profiles: tuple[str, ...], started: set[str]
) -> None:
    assert compose(*profiles).keys() == started


def test_the_number_of_workers_is_a_variable_and_each_partition_has_a_port_for_its_worker() -> None:
    worker = compose(WORKERS="3")["worker"]
    assert worker["deploy"]["replicas"] == 3
    (port,) = worker["ports"]
    first, last = port["published"].split("-")
    assert int(last) - int(first) + 1 == Config().kafka.partitions


def test_the_two_tritons_differ_only_in_the_gpu_and_answer_to_one_name(services: Services) -> None:
    cpu, gpu = services["triton"], services["triton-gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert gpu["networks"]["default"]["aliases"] == ["triton"]
    assert "deploy" not in cpu
    assert gpu["build"] == {**cpu["build"], "target": "gpu"}
    apart = {"profiles", "deploy", "networks", "build", "image"}
    assert {k: v for k, v in cpu.items() if k not in apart} == {
        k: v for k, v in gpu.items() if k not in apart
    }


def test_what_waits_for_health_waits_for_a_health_check_and_what_waits_for_an_end_for_one_shots(
    services: Services,
) -> None:
    for service in services.values():
        for name, waited in service.get("depends_on", {}).items():
            on = services[name]
            if waited["condition"] == "service_healthy":
                assert on["healthcheck"]["test"]
            else:
                assert waited["condition"] == "service_completed_successfully"
                assert "restart" not in on
    waited_for = services["worker"]["depends_on"]
    assert waited_for.keys() == {"topics", "redis", "triton", "triton-gpu"}
    assert {name for name, wait in waited_for.items() if not wait["required"]} == {"triton", "triton-gpu"}


def test_what_has_no_health_check_is_not_meant_to_last(services: Services) -> None:
    lasting = {name for name, service in services.items() if "restart" in service}
    assert lasting == {name for name, service in services.items() if "healthcheck" in service}


# Safe defaults


def test_ports_are_open_to_this_machine_only_and_no_two_services_want_the_same(services: Services) -> None:
    taken: dict[str, str] = {}
    for name, service in services.items():
        if name == "triton-gpu":
            continue  # instead of triton, never beside it
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", name
            assert taken.setdefault(port["published"], name) == name


def test_every_image_is_pinned_and_ours_carry_the_version_of_the_project(services: Services) -> None:
    bases = {
        rest.split()[0]
        for service in services.values()
        if "build" in service
        for name, rest in dockerfile(service)
        if name == "FROM"
    } - {
        rest.split()[-1]
        for service in services.values()
        if "build" in service
        for name, rest in dockerfile(service)
        if name == "FROM" and " AS " in rest
    }
    images = {service["image"] for service in services.values()}
    for image in bases | images:
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.-]+)?", image), image
    ours = {service["image"] for service in services.values() if "build" in service}
    assert ours == set(OURS)


def test_no_container_runs_as_root_or_may_become_it_or_write_outside_its_own_data(services: Services) -> None:
    for name, service in services.items():
        if "build" in service:
            *_, user = [rest for instruction, rest in dockerfile(service) if instruction == "USER"]
            assert "user" not in service, name
        else:
            user = service["user"]
        assert int(user.split(":")[0]) > 0, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.keys() & {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"}, name
        # Volumes are the data's, and nothing of this machine is handed in.
        assert {volume["type"] for volume in service.get("volumes", ())} <= {"volume"}, name


def test_packages_are_installed_only_with_the_hashes_of_the_locks() -> None:
    """Where a stage installs without a lock, it is the one that turns models into those for a GPU."""
    installing = re.findall(r"pip3? install [^&\n]+(?:\\\n[^&\n]+)*", (ROOT / "Dockerfile").read_text())
    assert len(installing) == 2
    assert "--require-hashes" in installing[0]
    assert "--no-deps --no-build-isolation ." in installing[1]
    of_triton = (ROOT / "triton" / "Dockerfile").read_text().partition("FROM python")[0]
    assert "--require-hashes" in of_triton
    script = (ROOT / "scripts" / "venv").read_text()
    assert '--require-hashes --only-binary=:all: \\\n  --requirement "requirements/$lock.txt"' in script


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("worker", ("traces",)),
        ("demo", ("local", "evaluate")),
        ("dev", ("local", "evaluate", "traces", "dev")),
    ],
)
def test_a_lock_holds_what_the_project_needs_in_versions_that_it_takes(
    lock: str, extras: tuple[str, ...]
) -> None:
    locked = locked_versions(ROOT / "requirements" / f"{lock}.txt")
    wanted = [*PROJECT["dependencies"]]
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), line


def test_the_locks_agree_with_one_another_and_with_what_they_are_made_of() -> None:
    everything = locked_versions(ROOT / "requirements" / "dev.txt")
    for lock in ("worker", "demo"):
        assert locked_versions(ROOT / "requirements" / f"{lock}.txt").items() <= everything.items()
    made_of = (ROOT / "triton" / "requirements.in").read_text().splitlines()
    wanted = dict(line.split("==") for line in made_of if not line.startswith("#"))
    assert locked_versions(ROOT / "triton" / "requirements.txt") == wanted


def locked_versions(file: Path) -> dict[str, str]:
    """The version of each package of a lock; each has hashes, and none comes from an address of its own."""
    text = file.read_text()
    assert "://" not in text
    versions = {}
    for entry in re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines():
        (name, version), hashes = re.findall(r"^([\w.-]+)==(\S+)", entry)[0], entry.count("--hash=sha256:")
        assert hashes > 0, entry
        versions[canonicalize_name(name)] = version
    return versions


def test_nothing_secret_is_handed_over(services: Services) -> None:
    words = re.compile(
        r"password|secret|token|credential|private|api_?key|//[^/\s]*:[^/\s,]*@", re.IGNORECASE
    )
    for service in services.values():
        assert not service.keys() & {"secrets", "env_file", "configs"}
        handed = {
            **(service.get("environment") or {}),
            "command": service.get("command"),
            "build": service.get("build"),
        }
        assert not words.search(json.dumps(handed))
    assert (ROOT / ".env").read_text().splitlines()[1:] == ["COMPOSE_PROFILES=cpu"]


def test_data_lies_on_named_volumes(services: Services) -> None:
    folders = {
        "kafka": services["kafka"]["environment"]["KAFKA_LOG_DIRS"],
        "redis": "/data",  # the working directory of its image
    }
    for name, folder in folders.items():
        (volume,) = services[name]["volumes"]
        assert (volume["type"], volume["target"]) == ("volume", folder)


def test_triton_and_who_adds_versions_share_the_volume_of_models_as_one_user(services: Services) -> None:
    sharing = {
        name: (volume["source"], volume["target"])
        for name, service in services.items()
        for volume in service.get("volumes", ())
        if volume["source"] == "models"
    }
    assert sharing.keys() >= {"triton", "triton-gpu", "worker"}
    assert set(sharing.values()) == {("models", "/models")}
    users = {
        rest.split(":")[0]
        for service in (services["triton"], services["worker"])
        for name, rest in dockerfile(service)
        if name == "USER" and rest != "root"
    }
    assert users == {"1000"}
    ((_, entry),) = [line for line in dockerfile(services["triton"]) if line[0] == "ENTRYPOINT"]
    *_, source, target = json.loads(entry)
    brought = [rest.split()[-1] for name, rest in dockerfile(services["triton"]) if name == "COPY"]
    assert brought.count(source) == 2  # for a CPU and for a GPU
    assert target == "/models"


def test_stopping_waits_longer_than_a_worker_needs_to_drain(services: Services) -> None:
    assert seconds(services["worker"]["stop_grace_period"]) > 10 > stream.worker.DRAIN_S


def test_triton_has_shared_memory_for_its_tensors(services: Services) -> None:
    assert int(services["triton"]["shm_size"]) >= 256 * 2**20


# True of this project


def test_every_command_is_one_of_streamrecs_with_options_that_it_has(services: Services) -> None:
    ours = {name for name, service in services.items() if service["image"] == STREAMREC_IMAGE}
    assert ours == {"topics", "catalogue", "worker", "trainer", "demo"}
    for name in ours:
        parse(services[name]["command"])


@pytest.mark.parametrize("words", ["topic create", "catalog import synthetics", "replay synthetic --rat 5"])
def test_a_command_with_a_misspelt_word_would_be_noticed(words: str) -> None:
    with pytest.raises(USAGE_ERROR):
        parse(words.split())


def test_every_setting_is_one_of_streamrecs_with_a_value_that_it_takes(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # no streamrec.toml
    for service in services.values():
        variables: Mapping[str, str] = service.get("environment", {})
        ours = {name for name in variables if name.startswith("STREAMREC")}
        assert bool(ours) == (service["image"] == STREAMREC_IMAGE)
        origins = {setting.origin for setting in load_with_origin(env=variables).settings}
        assert origins - {"default"} == {f"environment {name}" for name in ours}


def test_settings_point_at_the_listeners_of_the_other_services(services: Services) -> None:
    settings = services["worker"]["environment"]
    broker = services["kafka"]["environment"]
    assert settings["STREAMREC_KAFKA__BOOTSTRAP"] == "kafka:19092"
    assert broker["KAFKA_ADVERTISED_LISTENERS"].split(",") == [
        f"HOST://{Config().kafka.bootstrap}",
        "PLAINTEXT://kafka:19092",
    ]
    assert "PLAINTEXT://:19092" in broker["KAFKA_LISTENERS"].split(",")
    assert settings["STREAMREC_REDIS__URL"] == "redis://redis:6379/0"
    assert settings["STREAMREC_TRITON__URL"] == "triton:8001"


def test_programs_on_the_machine_reach_all_servers_with_the_default_settings(services: Services) -> None:
    published = {
        (name, port["target"]): f"{port['host_ip']}:{port['published']}"
        for name, service in services.items()
        for port in service.get("ports", ())
    }
    config = Config()
    assert published["kafka", 9092] == config.kafka.bootstrap
    assert published["redis", 6379] == config.redis.url.removeprefix("redis://").removesuffix("/0")
    assert published["triton", 8001] == config.triton.url


def test_the_worker_serves_metrics_on_the_port_that_is_published(services: Services) -> None:
    worker = services["worker"]
    target = worker["ports"][0]["target"]
    assert worker["environment"]["STREAMREC_TELEMETRY__PORT"] == str(target)
    assert ("EXPOSE", str(target)) in dockerfile(worker)


@pytest.mark.parametrize("name", ["worker", "trainer"])
@pytest.mark.parametrize(("tries", "healthy"), [([0, 0], False), ([0, 1], True)])
def test_a_process_is_healthy_while_it_waits_and_not_when_nothing_moves(
    services: Services, name: str, tries: list[int], healthy: bool
) -> None:
    worker = services[name]
    at_s = iter(range(10))
    progress = Progress(lambda: next(at_s), 0.5)
    for heard, number in enumerate(tries):
        progress.look([Work("events", {At("clicks", 0): Standing(5, 1, heard)}, number)])
    how, program, *arguments = worker["healthcheck"]["test"]
    assert (how, program) == ("CMD", "python")

    async def check() -> int:
        server = StatusServer(Telemetry(), lambda: ["waiting for Redis"], progress)
        (port,) = choose(("telemetry",)).values()
        await server.start("127.0.0.1", port)
        try:
            here = [re.sub(r":\d{4}/", f":{port}/", argument) for argument in arguments]
            checked = await asyncio.create_subprocess_exec(
                sys.executable, *here, stderr=asyncio.subprocess.DEVNULL
            )
            return await checked.wait()
        finally:
            await server.stop()

    assert (asyncio.run(check()) == 0) == healthy


# The same servers as without Docker


def test_triton_is_started_with_the_same_flags(services: Services) -> None:
    ((_, command),) = [line for line in dockerfile(services["triton"]) if line[0] == "CMD"]
    program, *arguments = json.loads(command)
    there = flags(arguments)
    ports = {"triton-http": 8000, "triton-grpc": 8001, "triton-metrics": 8002}
    here = flags(Triton(Path("/t"), Path("/e"), Path("/models")).server(Path("/f"), ports, {}).argv[1:])
    of_this_machine = {"id", "backend-directory", "backend-config", "cache-directory"} | {
        f"{name}-{what}" for name in ("http", "grpc", "metrics") for what in ("address", "port")
    }
    assert program == "tritonserver"
    assert there == {name: value for name, value in here.items() if name not in of_this_machine}
    assert sorted(port["target"] for port in services["triton"]["ports"]) == list(ports.values())


def test_triton_is_asked_for_the_health_of_the_models_that_workers_use(services: Services) -> None:
    how, _, script, url, *models = services["triton"]["healthcheck"]["test"]
    assert how == "CMD"
    assert url == "http://127.0.0.1:8000"
    settings = Config().triton
    assert models == [settings.encoder, settings.reranker, settings.cross_encoder]
    for model in models:
        assert (ROOT / "model_repository" / model / "config.pbtxt").is_file()
    copied = [rest.split() for name, rest in dockerfile(services["triton"]) if name == "COPY"]
    assert any(
        f"triton/{Path(script).name}" in sources and target.rstrip("/") == str(Path(script).parent)
        for *sources, target in copied
    )


def test_redis_is_started_with_the_same_settings(services: Services, tmp_path: Path) -> None:
    program, *arguments = services["redis"]["command"]
    here = Redis(Path("/usr/bin/redis-server")).server(tmp_path, {"redis": 6379}, {}).argv[1:]
    of_this_machine = {"--bind", "--port", "--dir"}
    assert program == "redis-server"
    assert dict(pairs(arguments)) == {k: v for k, v in pairs(here) if k not in of_this_machine}


def pairs(arguments: list[str]) -> list[tuple[str, str]]:
    return list(zip(arguments[::2], arguments[1::2], strict=True))


def test_kafka_is_the_same_release_with_the_same_settings(services: Services, tmp_path: Path) -> None:
    lock = Path(kafka.__file__).with_name("kafka.lock").read_text()
    (release,) = re.findall(r"^org\.apache\.kafka:kafka_2\.13:(\S+)", lock, flags=re.MULTILINE)
    assert services["kafka"]["image"] == f"apache/kafka:{release}"
    kafka.Kafka(Path("/java"), Path("/jars")).server(tmp_path, {"kafka": 1, "controller": 2}, {})
    written = (tmp_path / "server.properties").read_text()
    here = dict(line.split("=", 1) for line in written.splitlines())
    there = {
        name.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for name, value in services["kafka"]["environment"].items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    of_this_machine = {"log.dirs", "controller.quorum.voters"} | {
        name for name in there | here if "listener" in name
    }
    of_tests = {"broker.heartbeat.interval.ms", "broker.session.timeout.ms", "log.cleaner.dedupe.buffer.size"}
    assert there.keys() == here.keys() - of_tests
    assert all(there[name] == here[name] for name in there.keys() - of_this_machine)


# The images


@pytest.mark.parametrize("image", OURS)
def test_what_an_image_copies_is_in_the_repository_and_let_through(services: Services, image: str) -> None:
    service = next(service for service in services.values() if service["image"] == image)
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for source in copied(service):
        assert (ROOT / source).exists(), source
        assert Path(source).parts[0] in let_through, source
        tracked = subprocess.run(
            ["git", "ls-files", source], cwd=ROOT, capture_output=True, check=True
        ).stdout
        assert tracked, f"{source} is not in git"


def copied(service: Service) -> list[str]:
    """What a Dockerfile copies from the repository."""
    copies = [rest.split() for name, rest in dockerfile(service) if name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def test_the_worker_image_starts_a_program_that_the_project_installs(services: Services) -> None:
    instructions = dict(dockerfile(services["worker"]))
    (program,) = json.loads(instructions["ENTRYPOINT"])
    assert program in PROJECT["scripts"]
    assert json.loads(instructions["CMD"]) == services["worker"]["command"]


def test_the_image_for_a_gpu_is_a_stage_of_the_one_for_a_cpu_which_is_built_where_none_is_named(
    services: Services,
) -> None:
    stages = [rest.split()[-1] for name, rest in dockerfile(services["triton"]) if name == "FROM"]
    assert services["triton-gpu"]["build"]["target"] in stages
    assert stages[-1] == "cpu"
    assert "target" not in services["triton"]["build"]


def test_what_the_worker_image_copies_is_enough_to_install_every_package(
    services: Services, tmp_path: Path
) -> None:
    for source in copied(services["worker"]):
        place = tmp_path / "src" / source
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / source, place)
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(tmp_path / "src")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    folders = ("stream", "triton/model_factory")
    modules = {str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert {module.removeprefix("triton/") for module in modules} <= packed


# The health check of Triton, on a real one


def triton_health(url: str, *models: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "triton" / "healthcheck.py"), url, *models],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_triton_is_healthy_when_its_models_answer(stack: Stack, services: Services) -> None:
    models = services["triton"]["healthcheck"]["test"][4:]
    checked = triton_health(stack.endpoints.triton_http, *models)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_triton_is_ill_when_a_model_is_missing(stack: Stack) -> None:
    checked = triton_health(stack.endpoints.triton_http, "encoder", "no-such-model")
    assert checked.returncode == 1
    assert "no-such-model: HTTP Error" in checked.stderr


def test_triton_is_ill_when_the_processes_of_a_model_died_though_it_says_that_it_is_ready(
    stack: Stack,
) -> None:
    url = stack.endpoints.triton_http
    stubs = processes_of_model(stack, "encoder")
    assert stubs
    for pid in stubs:
        os.kill(pid, signal.SIGKILL)
    try:
        with urllib.request.urlopen(f"{url}/v2/models/encoder/ready", timeout=60) as answer:
            assert answer.status == 200
        checked = triton_health(url, "encoder")
        assert checked.returncode == 1
        assert "encoder: HTTP Error 500" in checked.stderr
    finally:
        for order in ("unload", "load"):  # a load alone changes nothing for Triton, and does nothing
            ask = urllib.request.Request(f"{url}/v2/repository/models/encoder/{order}", data=b"{}")
            urllib.request.urlopen(ask, timeout=600).close()
    assert triton_health(url, "encoder").returncode == 0


def processes_of_model(stack: Stack, model: str) -> list[int]:
    """The stubs of a model of this stack's Triton, by the arguments and the mark they were started with."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            started = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            words = ("triton_python_backend_stub", str(stack.folder))
            of_model = re.search(rf"/{model}/\d+/model\.py".encode(), started)
            if of_model and all(word.encode() in started for word in words):
                found.append(int(process.name))
    return found
