"""Settings: defaults, one TOML file over them, the environment over both; each knows where it came from.

The file is the one given by `--config`, else by the variable `STREAMREC_CONFIG`, else `streamrec.toml` in
the working directory where that exists. A variable is named by section and field, joined by two
underscores: `STREAMREC_KAFKA__BOOTSTRAP` sets `kafka.bootstrap`. An empty variable counts as not set.

A password comes from the environment, from the file that `password_file` names, or from the settings' file,
never from the command line. It is a `Secret` from here on, and in no message.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import os
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from stream.core.policy import Policy
from stream.errors import ConfigError
from stream.protection import check_protection, take_passwords
from stream.secret import HIDDEN, Secret

ENV_PREFIX = "STREAMREC_"
ENV_FILE = "STREAMREC_CONFIG"
ENV_HOME = "STREAMREC_HOME"
DEFAULT_FILE = "streamrec.toml"

Text = Annotated[str, Meta(min_length=1)]
TopicName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]


class Kafka(msgspec.Struct, frozen=True):
    """Where the broker is and how the topics are made."""

    bootstrap: Text = "127.0.0.1:9092"
    """Brokers to ask first, as host:port, several joined by commas."""
    group: Text = "streamrec"
    """Consumer group of the workers; all workers of one engine share it."""
    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 8
    """Partitions of every topic that is keyed by shopper or item; the upper limit of useful workers."""
    replication: Annotated[int, Meta(ge=1, le=100)] = 1
    """Copies of each partition; 3 on a cluster of three or more brokers."""
    session_timeout_s: Annotated[int, Meta(ge=6, le=1800)] = 10
    """A worker that is silent for this long loses its partitions to the others."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How brokers are spoken to: SSL is over TLS, SASL with a user, by SCRAM-SHA-512."""
    username: str = ""
    """The user, where the protocol has SASL."""
    password: Secret = Secret()
    """The user's password; never printed."""
    password_file: str = ""
    """A file that holds the password, instead of kafka.password."""
    ca_file: str = ""
    """PEM file of who signs the brokers' certificates; "" for those that the system trusts."""
    certificate_file: str = ""
    """PEM file of our certificate, where brokers ask for one."""
    key_file: str = ""
    """PEM file of its private key, without a passphrase."""


class Topics(msgspec.Struct, frozen=True):
    """The names of the topics."""

    clicks: TopicName = "clicks"
    """In: what shoppers did to items."""
    searches: TopicName = "searches"
    """In: what shoppers searched for."""
    items: TopicName = "items"
    """In, compacted: the catalogue."""
    recommendations: TopicName = "recommendations"
    """Out, compacted: each shopper's list."""
    attributions: TopicName = "attributions"
    """Out: what came of which list."""
    rules: TopicName = "rules"
    """In, compacted: what the shop demands of lists, over what `rules.file` holds."""
    dead_letters: TopicName = "dead-letters"
    """Out: messages that can never be used, with the reason in their headers."""
    item_vectors: TopicName = "item-vectors"
    """Internal, compacted: the encoded catalogue."""
    item_signals: TopicName = "item-signals"
    """Internal: increments of co-visitation and popularity, by item."""
    list_log: TopicName = "list-log"
    """Internal: what lists were ranked by, for the trainer."""
    model_versions: TopicName = "model-versions"
    """Internal, compacted: which version of each model serves."""


class Redis(msgspec.Struct, frozen=True):
    """Where the shoppers' states are kept."""

    url: Annotated[str, Meta(pattern=r"^(redis|rediss|unix)://.+")] = "redis://127.0.0.1:6379/0"
    """A redis://, rediss:// (TLS) or unix:// URL; a password in it is never printed."""
    cluster: bool = False
    """Whether it is a Redis Cluster; redis.url then names one or more of its nodes, as redis://a:6379,b:6379."""
    timeout_ms: Positive = 500
    """How long an answer may take before Redis counts as away."""
    user_ttl_days: Positive = 90
    """A state is forgotten this long after the shopper's last event."""
    newcomer_ttl_days: Positive = 8
    """And this long, if shorter, where the shopper did one or two things in all and bought nothing."""
    key_prefix: str = "sr:"
    """What every key begins with, so that several engines can share a server."""
    username: str = ""
    """The user of Redis' access list; "" for its default user."""
    password: Secret = Secret()
    """The user's password; never printed."""
    password_file: str = ""
    """A file that holds the password, instead of redis.password."""
    ca_file: str = ""
    """PEM file of who signs Redis' certificate; "" for those that the system trusts."""
    certificate_file: str = ""
    """PEM file of our certificate, where Redis asks for one."""
    key_file: str = ""
    """PEM file of its private key, without a passphrase."""


class Triton(msgspec.Struct, frozen=True):
    """Where the models are and how long they may take."""

    url: Annotated[str, Meta(pattern=r"^[^,\s]+( *, *[^,\s]+)*$")] = "127.0.0.1:8001"
    """Triton's gRPC address, as host:port; of several Tritons with the same models, joined by commas."""
    encoder: Text = "encoder"
    """Name of the model that turns text into vectors."""
    reranker: Text = "reranker"
    """Name of the model that orders candidates."""
    cross_encoder: Text = "cross_encoder"
    """Name of the model that reads a search and an item together."""
    cross_encoder_best: Annotated[int, Meta(ge=0, le=100)] = 0
    """How many of a search's best matches it reads for a list; 0 leaves it out (why: docs/models.md)."""
    rerank_deadline_ms: Positive = 100
    """A list is published without the reranker when it takes longer than this."""
    encode_deadline_ms: Positive = 100
    """A list is published without a new query's vector when encoding takes longer than this."""
    cross_encode_deadline_ms: Positive = 150
    """A list of a search is published without the cross-encoder when it takes longer than this."""
    breaker_failures: Positive = 5
    """After this many failures in a row a model is not asked for a while."""
    breaker_wait_ms: Positive = 200
    """How long a failing model is left alone before one request tries it again; doubles up to two seconds."""
    tls: bool = False
    """Whether Triton is spoken to over TLS."""
    ca_file: str = ""
    """PEM file of who signs Triton's certificate; "" for those that the system trusts."""
    certificate_file: str = ""
    """PEM file of our certificate, where Triton asks for one."""
    key_file: str = ""
    """PEM file of its private key, without a passphrase."""


class Rules(msgspec.Struct, frozen=True):
    """What the shop demands of lists."""

    file: str = ""
    """A TOML file of rules, read when a worker starts; rules of the topic with the same id come first."""


class Worker(msgspec.Struct, frozen=True):
    """How a worker takes its events."""

    batch_max: Annotated[int, Meta(ge=1, le=10_000)] = 64
    """Most events in one batch."""
    shown_lists: Annotated[int, Meta(ge=0, le=10_000_000)] = 20_000
    """Shoppers whose newest list is remembered, so that a withdrawn item leaves it; about 2 KB each."""


class Trainer(msgspec.Struct, frozen=True):
    """What is logged of lists, and how the reranker learns from it as the stream flows."""

    list_share: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of the lists that workers log to learn from, about 30 kB each; 0 logs none."""
    repository: str = ""
    """The model repository that Triton reads, where versions are written; "" for the checkout's."""
    folder: Text = "streamrec-trainer"
    """Where a trainer keeps its checkpoint: one folder for each trainer."""
    checkpoint_s: Annotated[float, Meta(gt=0)] = 30.0
    """A checkpoint is written this often; what was learnt since is learnt again after a crash."""
    roll_minutes: Annotated[float, Meta(ge=0)] = 5.0
    """A new version may take over this often."""
    roll_lists: Positive = 1_000
    """And only after so many more lists were learnt from."""
    figures_lists: Annotated[int, Meta(ge=10)] = 2_000
    """The running figures are over so many of the newest lists."""
    roll_margin: Annotated[float, Meta(ge=0)] = 0.0
    """How much worse than the serving version's a running figure of a new version may be."""
    rollback_margin: Annotated[float, Meta(ge=0)] = 0.005
    """The version before serves again where the serving one's MRR@20 is surely lower by this much."""
    rollback_lists: Annotated[int, Meta(ge=2)] = 200
    """And only where both were asked about so many of the newest lists."""
    keep_versions: Annotated[int, Meta(ge=1)] = 5
    """Versions that the trainer made and leaves on disk, besides those that serve or served last."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 9474
    """Port of a trainer's metrics and health, on telemetry.host; 0 takes a free one."""


class Telemetry(msgspec.Struct, frozen=True):
    """What a worker or a trainer tells about itself."""

    host: Text = "127.0.0.1"
    """Address that metrics and health are served on; 0.0.0.0 in a container."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    """Port of metrics and health; 0 takes a free one."""
    stalled_s: Annotated[float, Meta(ge=1.0)] = 300.0
    """A partition that has messages left and moves none of them for so long makes `/live` fail."""
    hash_key: Secret = Secret()
    """What shoppers' names in logs are hashed with; without one each process draws its own. Never printed."""
    hash_key_file: str = ""
    """A file that holds that key, instead of telemetry.hash_key."""
    traces_url: Annotated[str, Meta(pattern=r"^(https?://.+)?$")] = ""
    """A collector's address for OTLP over HTTP, as http://127.0.0.1:4318/v1/traces; "" traces nothing."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious messages to log; at debug also a line for each list, with how long it took."""
    log_format: Literal["text", "json"] = "text"
    """How lines are logged: as text, or as JSON objects with hashes of event and shopper in fields."""


class Config(msgspec.Struct, frozen=True):
    """All settings, by section."""

    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    redis: Redis = Redis()
    triton: Triton = Triton()
    rules: Rules = Rules()
    worker: Worker = Worker()
    trainer: Trainer = Trainer()
    telemetry: Telemetry = Telemetry()
    policy: Policy = Policy()


class Setting(NamedTuple):
    """One value, secrets hidden, and where it came from: "default", "file PATH" or "environment NAME"."""

    key: str
    value: Any
    origin: str
    description: str


class Loaded(NamedTuple):
    """A configuration and its settings one by one, in the order of the code."""

    config: Config
    settings: tuple[Setting, ...]


class _Field(NamedTuple):
    section: str
    name: str
    type: Any
    default: Any
    description: str

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        return f"{ENV_PREFIX}{self.section}__{self.name}".upper()


def load_config(path: str | Path | None = None, env: Mapping[str, str] | None = None) -> Config:
    """Read the settings. Raises as `load_with_origin`."""
    return load_with_origin(path, env).config


def load_with_origin(path: str | Path | None = None, env: Mapping[str, str] | None = None) -> Loaded:
    """Read the settings and remember where each came from; `env` is `os.environ` where it is None.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; names key, place and cure.
    """
    env = os.environ if env is None else env
    fields = tuple(_fields())
    found: dict[str, tuple[Any, str]] = {}
    file = _file_of(path, env)
    if file is not None:
        found.update(_from_file(file, fields))
    found.update(_from_environment(env, fields))

    settings = []
    sections: dict[str, dict[str, Any]] = {}
    for field in fields:
        value, origin = found.get(field.key, (field.default, "default"))
        settings.append(Setting(field.key, _shown(value), origin, field.description))
        sections.setdefault(field.section, {})[field.name] = value
    _check_topics(tuple(settings))
    origins = {setting.key: setting.origin for setting in settings}
    take_passwords(sections, origins)
    types = get_type_hints(Config)
    config = Config(**{section: types[section](**values) for section, values in sections.items()})
    check_protection(config, origins)
    return Loaded(config, tuple(settings))


def mask_secrets(url: str) -> str:
    """Hide the password of a URL, in the address or in the query."""
    url = re.sub(r"(://[^/@:]*):.*@", rf"\1:{HIDDEN}@", url)
    return re.sub(r"([?&](?:password|token|secret)=)[^&]*", rf"\1{HIDDEN}", url, flags=re.IGNORECASE)


def environment_of(config: Config) -> dict[str, str]:
    """The variables that make a process started with them load `config`; only what is not a default."""
    variables = {}
    for field in _fields():
        section = getattr(config, field.section)
        value = getattr(section, field.name)
        if value == field.default or (isinstance(value, Secret) and getattr(section, f"{field.name}_file")):
            continue
        if isinstance(value, Secret):
            variables[field.variable] = value.reveal()
        elif isinstance(value, msgspec.Struct):
            variables[field.variable] = msgspec.json.encode(value).decode()
        else:
            variables[field.variable] = str(value)
    return variables


def attribute_docs(struct: type) -> dict[str, str]:
    """The string literals that stand below the attributes of a class, as one line each."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(struct))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docs[before.target.id] = " ".join(after.value.value.split())
    return docs


def _fields() -> Iterator[_Field]:
    for section, struct in get_type_hints(Config).items():
        docs = attribute_docs(struct)
        types = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            yield _Field(section, field.name, types[field.name], field.default, docs.get(field.name, ""))


def _file_of(path: str | Path | None, env: Mapping[str, str]) -> Path | None:
    """The file to read, None where there is none to read."""
    if path is not None:
        return Path(path)
    if env.get(ENV_FILE):
        return Path(env[ENV_FILE])
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def _from_file(path: Path, fields: tuple[_Field, ...]) -> Iterator[tuple[str, tuple[Any, str]]]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give another with --config or unset {ENV_FILE}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML ({error})") from None
    by_key = {field.key: field for field in fields}
    sections = list(dict.fromkeys(field.section for field in fields))
    for section, values in document.items():
        if not isinstance(values, dict):
            near = [field.key for field in fields if field.name == section]
            raise ConfigError(
                f"{path}: {section}: "
                + (f"belongs in a section{_did_you_mean(near)}" if near else _unknown(section, sections))
            )
        if section not in sections:
            raise ConfigError(f"{path}: [{section}]: {_unknown(section, sections)}")
        for name, value in values.items():
            field = by_key.get(f"{section}.{name}")
            if field is None:
                raise ConfigError(f"{path}: {section}.{name}: {_unknown_key(section, name, fields)}")
            yield field.key, (_checked(field, value, str(path), strict=True), f"file {path}")


def _from_environment(
    env: Mapping[str, str], fields: tuple[_Field, ...]
) -> Iterator[tuple[str, tuple[Any, str]]]:
    by_variable = {field.variable: field for field in fields}
    for variable, text in sorted(env.items()):
        if not variable.startswith(ENV_PREFIX) or variable in (ENV_FILE, ENV_HOME):
            continue
        field = by_variable.get(variable)
        if field is None:
            raise ConfigError(
                f"environment: {variable}: {_unknown(variable, [*by_variable, ENV_FILE, ENV_HOME])}"
            )
        if text:
            value = _checked(field, text, f"environment {variable}", strict=False)
            yield field.key, (value, f"environment {variable}")


def _checked(field: _Field, value: Any, place: str, *, strict: bool) -> Any:
    try:
        if not strict and isinstance(field.default, msgspec.Struct):  # a section within one: as JSON
            value = msgspec.json.decode(value)
        checked = msgspec.convert(value, field.type, strict=strict, dec_hook=_secret)
    except msgspec.DecodeError as error:
        if field.type is Secret:
            raise ConfigError(f"{place}: {field.key}: expected str") from None
        expected = str(error).partition(", got ")[0].replace("`", "")
        if choices := get_args(field.type) if get_origin(field.type) is Literal else ():
            expected = f"expected one of {', '.join(choices)}"
        got = mask_secrets(value) if isinstance(value, str) else value
        raise ConfigError(f"{place}: {field.key}: {expected[0].lower()}{expected[1:]}, got {got!r}") from None
    if isinstance(checked, float) and not math.isfinite(checked):
        raise ConfigError(f"{place}: {field.key}: expected a finite float, got {value!r}")
    return checked


def _secret(kind: type, value: object) -> Secret:
    """Make what msgspec cannot: a secret of a string."""
    if kind is not Secret or not isinstance(value, str):
        raise msgspec.ValidationError("Expected `str`")
    return Secret(value)


def _shown(value: Any) -> Any:
    """A value as it may be seen."""
    if isinstance(value, Secret):
        return str(value)
    return mask_secrets(value) if isinstance(value, str) else value


def _check_topics(settings: tuple[Setting, ...]) -> None:
    """Two topics of one name would feed the engine its own output."""
    seen: dict[str, Setting] = {}
    for setting in settings:
        if setting.key.startswith("topics."):
            other = seen.setdefault(setting.value, setting)
            if other is not setting:
                wrong, right = (other, setting) if setting.origin == "default" else (setting, other)
                raise ConfigError(
                    f"{wrong.origin}: {wrong.key}: {wrong.value!r} is the name of {right.key} too; "
                    f"every topic needs its own"
                )


def _unknown_key(section: str, name: str, fields: tuple[_Field, ...]) -> str:
    names = [field.name for field in fields if field.section == section]
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"no such setting{_did_you_mean([f'{section}.{near[0]}'])}"
    elsewhere = [field.key for field in fields if field.name == name]
    if elsewhere:
        return f"no such setting{_did_you_mean(elsewhere)}"
    return f"no such setting; [{section}] has {', '.join(names)}"


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"no such setting{_did_you_mean(near)}"
    return "no such setting; `streamrec config` lists them all"


def _did_you_mean(names: list[str]) -> str:
    return f", did you mean {' or '.join(names)}?"
