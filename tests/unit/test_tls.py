"""Why two do not understand each other over TLS: told by a handshake, with the setting that cures it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from stream.adapters import tls
from stream.config import Kafka


class Certificates:
    """An authority that a server's certificate is of, and another."""

    def __init__(self, folder: Path) -> None:
        authority, other = trustme.CA(), trustme.CA()
        self.ca, self.other, self.ours = (str(folder / name) for name in ("ca.pem", "other.pem", "ours.pem"))
        authority.cert_pem.write_to_path(self.ca)
        other.cert_pem.write_to_path(self.other)
        authority.issue_cert("client@streamrec").private_key_and_cert_chain_pem.write_to_path(self.ours)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.server)
        self.demanding = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.demanding)
        authority.configure_trust(self.demanding)
        self.demanding.verify_mode = ssl.CERT_REQUIRED


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def said_of(
    server: ssl.SSLContext | None, ours: Kafka | None, host: str = "127.0.0.1", word: bytes = b"hello"
) -> str | None:
    """What is said of a server that speaks so and closes after a word, to a client with these settings."""

    async def ask() -> str | None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(word)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server) as listening:
            port = listening.sockets[0].getsockname()[1]
            trust = None if ours is None else tls.context(ours, tls.KAFKA)
            return await tls.misunderstanding(host, port, trust, tls.KAFKA)

    return asyncio.run(ask())


def test_nothing_is_said_where_both_speak_plain_text_or_trust_one_another(certificates: Certificates) -> None:
    assert said_of(None, None) is None
    assert said_of(certificates.server, Kafka(ca_file=certificates.ca)) is None
    settings = Kafka(ca_file=certificates.ca, certificate_file=certificates.ours, key_file=certificates.ours)
    assert said_of(certificates.demanding, settings) is None


def test_nothing_is_said_where_nobody_listens(certificates: Certificates) -> None:
    trust = tls.context(Kafka(ca_file=certificates.ca), tls.KAFKA)
    for ours in (None, trust):
        assert asyncio.run(tls.misunderstanding("127.0.0.1", 1, ours, tls.KAFKA)) is None


def test_plain_text_is_told_from_tls_on_either_side(certificates: Certificates) -> None:
    assert said_of(certificates.server, None) == (
        "it speaks TLS: set kafka.security_protocol to SASL_SSL or SSL"
    )
    for word in (b"-ERR what?\r\n", b""):
        said = said_of(None, Kafka(ca_file=certificates.ca), word=word)
        assert said is not None
        assert said.startswith("it does not speak TLS on this port")


def test_a_certificate_of_somebody_else_is_not_trusted_and_the_systems_trust_is_not_enough(
    certificates: Certificates,
) -> None:
    for settings in (Kafka(ca_file=certificates.other), Kafka()):
        said = said_of(certificates.server, settings)
        assert said is not None
        assert said.startswith("its certificate is not trusted (")
        assert said.endswith("set kafka.ca_file to the file of who signed it")


def test_a_certificate_for_another_name_is_refused(certificates: Certificates) -> None:
    said = said_of(certificates.server, Kafka(ca_file=certificates.ca), host="localhost")
    assert said is not None
    assert said.startswith("its certificate is for another name (")
    assert said.endswith("reach Kafka by a name that the certificate holds")


def test_a_certificate_of_ours_that_is_asked_for_and_missing_is_named(certificates: Certificates) -> None:
    trust = tls.context(Kafka(ca_file=certificates.ca), tls.KAFKA)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            """As servers do, and asyncio does not: say why before hanging up."""
            connection, _ = listening.accept()
            with connection, suppress(ssl.SSLError):
                certificates.demanding.wrap_socket(connection, server_side=True)

        refusing = threading.Thread(target=refuse)
        refusing.start()
        port = listening.getsockname()[1]
        said = asyncio.run(tls.misunderstanding("127.0.0.1", port, trust, tls.KAFKA))
        refusing.join()
    assert said is not None
    assert said.startswith("it refused the TLS connection (")
    assert "kafka.certificate_file and kafka.key_file must hold a certificate that it trusts" in said
