"""Certificates that must not be believed: each is refused with its reason, tried again with back-off, never without TLS."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.mqtt_peer import (
    Peer,
    Server,
    Subject,
    forever,
    make_certificates,
    on_uvloop,
    running,
    settings,
    until,
)

CA = """
[ca]
default_ca = own
[own]
dir = {folder}
database = {folder}/index
serial = {folder}/serial
new_certs_dir = {folder}
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
policy = any
unique_subject = no
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {names}
"""

# What is wrong with the server: key, its names, from and to (YYYYMMDD), and a word of the reason.
FAULTS: dict[str, tuple[str, str, str, str, str]] = {
    "another host": (
        "ec",
        "DNS:elsewhere.example",
        "20200101",
        "20450101",
        "is not valid for '127.0.0.1'; use the name that it is for in broker.main.url",
    ),
    "expired": ("ec", "IP:127.0.0.1", "20200101", "20210101", "expired; this machine's clock says"),
    "not yet valid": ("ec", "IP:127.0.0.1", "20450101", "20460101", "not yet valid; this machine's clock says"),
    "a weak key": (
        "rsa:1024",
        "IP:127.0.0.1",
        "20200101",
        "20450101",
        "key too weak; the broker needs a certificate with a key of 2048 bits",
    ),
    "another authority": (
        "ec",
        "IP:127.0.0.1",
        "20200101",
        "20450101",
        "certificate chain; it was not signed by the authority in",
    ),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    make_certificates(folder)
    return folder


def certificate(folder: Path, key: str, names: str, start: str, end: str) -> None:
    """bad.pem and bad.key, signed by the folder's authority."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    kind = ("-newkey", key) if key.startswith("rsa") else ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl("req", *kind, "-nodes", "-keyout", "bad.key", "-out", "bad.csr", "-subj", "/CN=bad")
    (folder / "ca.conf").write_text(CA.format(folder=folder, names=names))
    (folder / "index").write_text("")
    (folder / "serial").write_text("01\n")
    dates = ("-startdate", f"{start}000000Z", "-enddate", f"{end}000000Z")
    openssl("ca", "-batch", "-config", "ca.conf", "-in", "bad.csr", "-out", "bad.pem", *dates)


@pytest.mark.parametrize("fault", FAULTS)
@on_uvloop
async def test_refused_with_its_reason(fault: str, authority: Path, tmp_path: Path) -> None:
    key, names, start, end, reason = FAULTS[fault]
    certificate(authority, key, names, start, end)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # the server does not mind a weak key
    context.load_cert_chain(authority / "bad.pem", authority / "bad.key")
    plain: list[Any] = []
    handshakes: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: handshakes.append(name)

    async def script(peer: Peer) -> None:  # reached only after a handshake
        plain.append(await peer.read())
        await forever(peer)

    if fault == "another authority":
        make_certificates(tmp_path)
        chain = (authority / "bad.pem").read_bytes() + (authority / "ca.pem").read_bytes()
        (authority / "chain.pem").write_bytes(chain)
        context.load_cert_chain(authority / "chain.pem", authority / "bad.key")
    ca = (tmp_path if fault == "another authority" else authority) / "ca.pem"
    async with Server(script, context) as server:
        subject = Subject(settings(server.port, scheme="mqtts", ca=ca))
        async with running(subject):
            await until(lambda: len(handshakes) >= 2 and subject.link.state == "tls")
            assert reason in subject.link.reason
            assert subject.link.counts.connects == 0
    assert plain == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the broker closed the connection in the handshake: is this its plain port (mqtt://, usually 1883)?"),
        (b"\x20\x09\x00\x84\x06" + bytes(6), "does not speak TLS: is this the plain port (mqtt://, usually 1883)?"),
    ],
)
@on_uvloop
async def test_a_plain_port_spoken_to_with_tls(answer: bytes, said: str, tmp_path: Path) -> None:
    make_certificates(tmp_path)

    async def script(peer: Peer) -> None:
        await peer.read()
        peer.writer.write(answer)

    async with Server(script) as server:
        subject = Subject(settings(server.port, scheme="mqtts", ca=tmp_path / "ca.pem"))
        async with running(subject):
            await until(lambda: subject.link.state == "tls")
            assert said in subject.link.reason


@on_uvloop
async def test_a_tls_port_spoken_to_plainly(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    async with Server(forever, context) as server:
        subject = Subject(settings(server.port))
        async with running(subject):
            await until(lambda: "TLS" in subject.link.reason)
            assert "mqtts://" in subject.link.reason
            assert subject.link.counts.connects == 0
