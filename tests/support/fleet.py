"""A signer, and a static https server with a CA of its own that can misbehave on purpose."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.fleet.signatures import make_key, sign

GROUP = "fleet/presses"


class Signer:
    """Writes announcements of one group."""

    def __init__(self, topic: str = GROUP) -> None:
        self.private, self.public = make_key()
        self.topic = topic

    def announce(self, data: bytes = b"", **changes: Any) -> bytes:
        """An announcement of `normal`, version 4, with some of it changed."""
        said = {
            "topic": self.topic,
            "model": "normal",
            "version": "4",
            "counter": 1,
            "signed_at": int(time.time()),
            "until": int(time.time()) + 3600,
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data) or 1,
            "url": "https://models.plant/normal-4.onnx",
        }
        text = json.dumps({**said, **changes})
        return json.dumps({"signed": text, "signature": sign(self.private, text)}).encode()


def certificates(folder: Path) -> tuple[Path, Path]:
    """A CA, and a server's certificate with its key for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    now = datetime.datetime.now(datetime.timezone.utc)

    def made(name: str, issuer: str, key: Any, by: Any, extension: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
            key.public_key(),
            x509.random_serial_number(),
            now - datetime.timedelta(days=1),
            now + datetime.timedelta(days=1),
        )
        builder = builder.add_extension(*extension)  # and what Python 3.13 insists on:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
        is_ca = key is by
        usage = x509.KeyUsage(True, False, False, False, False, is_ca, is_ca, False, False)
        return builder.add_extension(usage, True).sign(by, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = made("tests", "tests", ca_key, ca_key, (x509.BasicConstraints(True, None), True))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    own = made("server", "tests", key, ca_key, (names, False))
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(own.public_bytes(Encoding.PEM) + secret)
    return folder / "ca.pem", folder / "server.pem"


class Server:
    """`files` by path; `behaviour` by path takes the request handler and the file instead. `asked`: paths and ranges."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.behaviour: dict[str, Callable[[Any, bytes], None]] = {}
        self.asked: list[tuple[str, str]] = []
        self.stop = threading.Event()
        self.ca, own = certificates(folder)
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked.append((self.path, self.headers.get("Range", "")))
                data = server.files.get(self.path)
                if self.path in server.behaviour:
                    self.close_connection = True
                    return server.behaviour[self.path](self, data or b"")
                if data is None:
                    return self.send_error(404)
                start = int(self.headers.get("Range", "bytes=0-")[6:-1])
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                self.wfile.write(data[start:])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    one = Server(folder)
    yield one
    one.close()
