"""TLS: the context that every client speaks it in, and why a server and we do not understand each other."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

from stream.config import Kafka, Redis, Triton
from stream.errors import ConfigError

PROBE_S = 10.0
"""Longer than any handshake; reached only where a server takes the connection and says nothing."""


class Wording(NamedTuple):
    """How a server is called, the section of its settings, what turns TLS on and off there, its protocol."""

    name: str
    section: str
    on: str
    off: str
    alpn: tuple[str, ...] = ()


KAFKA = Wording(
    "Kafka",
    "kafka",
    "kafka.security_protocol to SASL_SSL or SSL",
    "kafka.security_protocol to SASL_PLAINTEXT or PLAINTEXT",
)
REDIS = Wording("Redis", "redis", "a rediss:// URL as redis.url", "a redis:// URL as redis.url")
TRITON = Wording("Triton", "triton", "triton.tls to true", "triton.tls to false", ("h2",))


def context(settings: Kafka | Redis | Triton, wording: Wording) -> ssl.SSLContext:
    """Make a context that checks the server's certificate and name, and shows ours where there is one.

    Raises:
        ConfigError: a file is missing or is not what it should be; names the setting.
    """
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.ca_file:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody but whom the file names
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            made.load_verify_locations(settings.ca_file)
        except ssl.SSLError:
            raise ConfigError(
                f"{wording.section}.ca_file: {settings.ca_file} holds no certificate in PEM"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{wording.section}.ca_file: {settings.ca_file} cannot be read: {error.strerror}"
            ) from None
    if settings.certificate_file:
        pair = (
            f"{wording.section}.certificate_file: {settings.certificate_file} and "
            f"{wording.section}.key_file: {settings.key_file}"
        )
        try:
            # A key with a passphrase is refused here; without a function, OpenSSL would ask on the terminal.
            made.load_cert_chain(settings.certificate_file, settings.key_file, password=lambda: b"")
        except ssl.SSLError:
            raise ConfigError(
                f"{pair} are no certificate and its key, in PEM and without a passphrase"
            ) from None
        except OSError as error:
            raise ConfigError(f"{pair} cannot be read: {error.strerror}") from None
    if wording.alpn:
        made.set_alpn_protocols(list(wording.alpn))
    return made


def explained(error: ssl.SSLError, wording: Wording) -> str:
    """What a failed handshake means, and which setting cures it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if "mismatch" in error.verify_message:
            return (
                f"its certificate is for another name ({error.verify_message.rstrip('.')}): "
                f"reach {wording.name} by a name that the certificate holds"
            )
        return (
            f"its certificate is not trusted ({error.verify_message}): set {wording.section}.ca_file to the "
            "file of who signed it"
        )
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version number" in reason or "record layer" in reason or "unexpected eof" in reason:
        return _no_tls(wording)
    return _refused(reason, wording)


async def misunderstanding(host: str, port: int, ours: ssl.SSLContext | None, wording: Wording) -> str | None:
    """Try a handshake and say why it fails; None where nothing is wrong with TLS, or nobody answers.

    Args:
        ours: the context we speak in; None where we speak plain text, and TLS is what should not be there.
    """
    probe = ours
    if probe is None:
        probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # asks whether TLS is spoken, and sends nothing
        probe.check_hostname, probe.verify_mode = False, ssl.CERT_NONE
    writer = None
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=probe)
            # That a certificate of ours is missing is only told after the handshake, by some without a word.
            if ours is not None and not await reader.read(1):
                return _refused("it hung up after the handshake", wording)
    except ssl.SSLError as error:
        return None if ours is None else explained(error, wording)
    except ConnectionRefusedError:
        return None
    except ConnectionError:
        if ours is None:
            return None
        return _no_tls(wording) if writer is None else _refused("it hung up after the handshake", wording)
    except (OSError, TimeoutError):
        return None
    finally:
        if writer is not None:
            writer.transport.abort()
    return f"it speaks TLS: set {wording.on}" if ours is None else None


def _no_tls(wording: Wording) -> str:
    return f"it does not speak TLS on this port: name its port for TLS, or set {wording.off}"


def _refused(reason: str, wording: Wording) -> str:
    return (
        f"it refused the TLS connection ({reason}): {wording.section}.certificate_file and "
        f"{wording.section}.key_file must hold a certificate that it trusts"
    )
