"""Settings of users, passwords and certificates: where passwords come from, and what would have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from stream.errors import ConfigError
from stream.secret import Secret

if TYPE_CHECKING:
    from stream.config import Config, Redis

SECRETS = (("kafka", "password"), ("redis", "password"), ("telemetry", "hash_key"))
FILES = ("ca_file", "certificate_file", "key_file")


def take_passwords(sections: Mapping[str, dict[str, Any]], origins: dict[str, str]) -> None:
    """Move secrets to where they belong, out of `redis.url`, which is printed, and out of their files.

    Args:
        sections: values by section and name; changed in place.
        origins: where each value came from, by `section.name`; changed too.

    Raises:
        ConfigError: a secret is said twice, its file cannot be read, or the URL cannot.
    """
    _take_from_url(sections["redis"], origins)
    for section, name in SECRETS:
        _read_file(section, name, sections[section], origins)


def check_protection(config: Config, origins: Mapping[str, str]) -> None:
    """Refuse settings of users and certificates that have no effect: plain text would be spoken unnoticed.

    Raises:
        ConfigError: names the setting, and the one that it needs.
    """
    kafka, redis, triton = config.kafka, config.redis, config.triton
    protocol = f"kafka.security_protocol is {kafka.security_protocol}"
    sasl = kafka.security_protocol.startswith("SASL")
    for name, cure in (("username", "kafka.username"), ("password", "kafka.password or kafka.password_file")):
        if sasl and not getattr(kafka, name):
            raise ConfigError(
                f"{origins['kafka.security_protocol']}: {protocol}, which needs a user: set {cure}"
            )
        if not sasl and getattr(kafka, name):
            raise ConfigError(
                f"{origins[f'kafka.{name}']}: kafka.{name} has no effect where {protocol}: "
                "set that to SASL_SSL, or unset the user"
            )
    if redis.username and not redis.password:
        raise ConfigError(
            f"{origins['redis.username']}: redis.username is nothing without a password: set redis.password "
            "or redis.password_file"
        )
    _check_cluster(redis, origins)
    for section, values, encrypted, cure in (
        ("kafka", kafka, kafka.security_protocol.endswith("SSL"), f"{protocol}: set that to SASL_SSL or SSL"),
        ("redis", redis, redis.url.startswith("rediss:"), "redis.url is no rediss:// URL: make it one"),
        ("triton", triton, triton.tls, "triton.tls is false: set it to true"),
    ):
        given = [name for name in FILES if getattr(values, name)]
        for name in given:
            place = f"{origins[f'{section}.{name}']}: {section}.{name}"
            if not encrypted:
                raise ConfigError(f"{place} has no effect where {cure}, or unset the file")
            if name != "ca_file" and not {"certificate_file", "key_file"} <= set(given):
                other = "key_file" if name == "certificate_file" else "certificate_file"
                raise ConfigError(f"{place} is half of a pair: set {section}.{other} too")


def _check_cluster(redis: Redis, origins: Mapping[str, str]) -> None:
    """Refuse what a cluster does not have, and several nodes of what is none."""
    parts = urlsplit(redis.url)
    place = f"{origins['redis.url']}: redis.url"
    if not redis.cluster:
        if "," in parts.netloc:
            raise ConfigError(f"{place}: names several nodes: set redis.cluster to true, or name one")
        return
    if parts.scheme == "unix":
        raise ConfigError(f"{place}: a cluster is not reached by a socket: name nodes as redis://HOST:PORT")
    if parts.path.strip("/") not in ("", "0"):
        raise ConfigError(
            f"{place}: a cluster has no database but 0: leave out {parts.path!r}, and tell engines apart by "
            "redis.key_prefix"
        )
    if parts.query:
        raise ConfigError(f"{place}: options after the ? have no effect on a cluster: leave them out")
    if "{" in redis.key_prefix:
        raise ConfigError(
            f"{origins['redis.key_prefix']}: redis.key_prefix: a brace would put all keys on one master of "
            "the cluster: choose a prefix without"
        )


def _take_from_url(redis: dict[str, Any], origins: dict[str, str]) -> None:
    origin = origins["redis.url"]
    try:
        parts = urlsplit(redis["url"])
        for node in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{node}").port
    except ValueError:
        raise ConfigError(
            f"{origin}: redis.url: cannot be read as a URL: percent-encode the signs of its password, or set "
            "redis.password instead"
        ) from None
    query = dict(parse_qsl(parts.query))
    said = {
        "username": query.pop("username", None) or unquote(parts.username or ""),
        "password": query.pop("password", None) or unquote(parts.password or ""),
    }
    for name, value in said.items():
        if value and redis[name]:
            raise ConfigError(
                f"{origins[f'redis.{name}']}: redis.{name}: redis.url holds one too ({origin}); "
                "keep one of them"
            )
        if value:
            redis[name] = value if name == "username" else Secret(value)
            origins[f"redis.{name}"] = origin
    if any(said.values()):
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        redis["url"] = f"{address}?{urlencode(query)}" if query else address


def _read_file(section: str, name: str, values: dict[str, Any], origins: dict[str, str]) -> None:
    file = values[f"{name}_file"]
    if not file:
        return
    origin = origins[f"{section}.{name}_file"]
    place = f"{origin}: {section}.{name}_file"
    what = name.replace("_", " ")
    if values[name]:
        other = origins[f"{section}.{name}"]
        raise ConfigError(f"{place}: the {what} is set by {other} too; keep one of them")
    try:
        text = Path(file).read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{place}: {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{place}: {file} is not UTF-8 text") from None
    if not text:
        raise ConfigError(f"{place}: {file} is empty: write the {what} into it")
    values[name] = Secret(text)
    origins[f"{section}.{name}"] = origin
