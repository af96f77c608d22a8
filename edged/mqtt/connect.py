"""From a broker's address to a connected socket, without ever holding the loop.

Name look-up and the reading of certificates block, so they run in a one-shot daemon thread, at most one at a time; TCP
and TLS handshakes are non-blocking. Every socket is closed on every way out, cancellation included.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Any, TypeVar

from edged.errors import Retryable
from edged.mqtt.settings import LinkSettings
from edged.mqtt.websocket import MAX_HEAD, BadAnswer, WebSocket, check_answer, new_key, request
from edged.notation.values import BrokerUrl, Secret
from edged.system.one_shot import start_one_shot_thread
from edged.system.plain_file import opened_plain

T = TypeVar("T")
SocketAddress = tuple[Any, ...] | str
Address = tuple[socket.AddressFamily, SocketAddress]

CERT_NOT_YET_VALID, CERT_EXPIRED = 9, 10  # X509_V_ERR_*
CERTIFICATES_BYTES = 1 << 20
UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
OTHER_NAME = (62, 64)
WEAK_KEY = (66, 67)
NO_TLS = "what answers does not speak TLS: is this the plain port (mqtt://, usually 1883)? mqtts:// is usually 8883"
HUNG_UP = "the broker closed the connection in the handshake: is this its plain port (mqtt://, usually 1883)? else see its log"
NO_CERTIFICATE = "the broker requires a client certificate: set cert and key"
# What OpenSSL calls it, and what it means to whoever has to fix it.
TLS_FAULTS = {
    "WRONG_VERSION_NUMBER": NO_TLS,
    "HTTP_REQUEST": NO_TLS,
    "RECORD_LAYER_FAILURE": NO_TLS,
    "PACKET_LENGTH_TOO_LONG": NO_TLS,
    "UNEXPECTED_EOF_WHILE_READING": HUNG_UP,
    "UNSUPPORTED_PROTOCOL": "the broker offers only TLS older than 1.2: update it",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the broker does not speak TLS 1.2 or 1.3: update it",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": f"the broker and edged share no cipher, or {NO_CERTIFICATE}",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": NO_CERTIFICATE,
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not know the authority that signed the client certificate (cert)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the broker does not accept the client certificate (cert)",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the broker does not accept the client certificate (cert)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client certificate (cert) has expired, by the broker's clock",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the client certificate (cert) was revoked",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the broker does not speak the protocol that alpn names",
    "TLSV1_UNRECOGNIZED_NAME": "the broker has no certificate for this name: use the name that its certificate is for in url",
}
WRONG_PASS_PHRASE = "key_password is not the pass phrase of key, or a file is damaged"
FILE_FAULTS = {
    "NO_CERTIFICATE_OR_CRL_FOUND": "ca holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
    "KEY_VALUES_MISMATCH": "key does not belong to cert: the two must be made together",
    "PEM_LIB": "a file is not in PEM form (-----BEGIN ...), or is damaged",
    "BAD_BASE64_DECODE": "a PEM file is damaged",
    "BAD_DECRYPT": WRONG_PASS_PHRASE,
    "EE_KEY_TOO_SMALL": "the key of cert is too weak: make one of 2048 bits or more",
}


class Refusal(Retryable):
    """The other side said no, or our own files are wrong: trying again soon would not help."""


class Connector:
    """Opens streams to one broker. Keeps what is worth keeping between attempts: a look-up that has not come back."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._prepared: asyncio.Future[tuple[list[Address], ssl.SSLContext | None]] | None = None

    async def open(self, timeout_s: float) -> socket.socket | WebSocket:
        """A connected, non-blocking socket; with TLS an `ssl.SSLSocket` after its handshake; for `ws` and `wss` what frames the
        bytes of one.

        Raises Retryable: `unresolved`, `refused`, `unreachable`, `timeout`; Refusal: `tls`, `files`.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        addresses, context = await self._prepare(deadline)
        failure = Retryable("unreachable", f"{self._settings.url} has no address")
        for i, (family, address) in enumerate(addresses):
            left = deadline - asyncio.get_running_loop().time()
            share = asyncio.get_running_loop().time() + left / (len(addresses) - i)  # a dead first address must not eat it all
            try:
                return await self._open_one(family, address, context, share)
            except Refusal:
                raise
            except Retryable as error:
                failure = error
        raise failure

    async def _prepare(self, deadline: float) -> tuple[list[Address], ssl.SSLContext | None]:
        url = self._settings.url
        if url.scheme == "unix":
            return [(socket.AF_UNIX, url.path)], None
        numeric = numeric_address(url.host, url.port)
        if numeric and not url.is_tls:
            return [numeric], None
        settings = self._settings
        if self._prepared is None or self._prepared.done():  # else the last attempt's thread is still at it: no second one
            self._prepared = start_one_shot_thread(
                "edged-lookup",
                lambda: ([numeric] if numeric else look_up(url.host, url.port), make_context(settings)),
                lambda _: None,
            )
        prepared = self._prepared
        await asyncio.wait({prepared}, timeout=deadline - asyncio.get_running_loop().time())
        if not prepared.done():
            raise Retryable("unresolved", f"no answer to the look-up of {url.host}: check the name server")
        return prepared.result()

    async def _open_one(
        self, family: socket.AddressFamily, address: SocketAddress, context: ssl.SSLContext | None, deadline: float
    ) -> socket.socket | WebSocket:
        url = self._settings.url
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await connect(sock, address, deadline, str(url))
            if context is not None:
                # Takes the file descriptor over; from here on closing `sock` closes the TLS socket.
                sock = context.wrap_socket(sock, server_hostname=url.host, do_handshake_on_connect=False)
                await shake_hands(sock, deadline, self._settings)
            if url.is_websocket:
                return await upgrade(sock, deadline, url)
        except BaseException:
            sock.close()
            raise
        return sock


def numeric_address(host: str, port: int) -> Address | None:
    """The address where `host` is written as one already."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return (socket.AF_INET6, (host, port, 0, 0)) if version == 6 else (socket.AF_INET, (host, port))


def look_up(host: str, port: int) -> list[Address]:
    """All addresses of a name, in the system's order. Blocks. Raises Retryable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Retryable("unresolved", f"cannot find the broker's host {host!r}: {error}") from None
    return [(family, address) for family, _, _, _, address in found]


def make_context(settings: LinkSettings) -> ssl.SSLContext | None:
    """The TLS side of the settings, None without TLS. Reads files: blocks. Raises Refusal."""
    if not settings.url.is_tls:
        return None
    try:
        for file in filter(None, (settings.ca, settings.cert)):
            with opened_plain(file, CERTIFICATES_BYTES):  # OpenSSL would wait for the writer of a pipe
                pass
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Python 3.13 began to insist on extensions that home-made authorities leave out; signatures, dates and names are
        # checked all the same. One configuration, one behaviour.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if settings.cert and settings.key:
            load_client_certificate(context, str(settings.cert), settings.key.reveal(), settings.key_password)
        if settings.alpn:
            context.set_alpn_protocols([settings.alpn])
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = ", ".join(str(f) for f in (settings.ca, settings.cert) if f)
        said = str(error).replace(" ", "_").upper()  # some reasons have no name of their own in Python's tables
        locked = {"PEM_LIB": WRONG_PASS_PHRASE} if settings.key_password is not None else {}
        faults = {**FILE_FAULTS, **locked}
        why = next((text for name, text in faults.items() if name in said), str(error))
        raise Refusal("files", f"cannot use the TLS files of broker {settings.name} ({names}): {why}") from None
    return context


def load_client_certificate(context: ssl.SSLContext, cert: str, key: str, password: Secret | None = None) -> None:
    """`cert` is a path, `key` PEM text: it passes through memory only, since OpenSSL wants a file's name."""
    fd = os.memfd_create("edged-key", os.MFD_CLOEXEC)
    try:
        os.write(fd, key.encode())
        context.load_cert_chain(cert, f"/proc/self/fd/{fd}", _no_pass_phrase if password is None else password.reveal)
    finally:
        os.close(fd)


def _no_pass_phrase() -> str:
    """Else OpenSSL asks for it on the terminal, and waits there for ever."""
    raise ValueError("key has a pass phrase: add key_password")


async def connect(sock: socket.socket, address: SocketAddress, deadline: float, where: str) -> None:
    """Connects a non-blocking socket. Raises Retryable."""
    try:
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS or (code == errno.EAGAIN and sock.family != socket.AF_UNIX):
            await until_ready(sock, True, deadline)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except TimeoutError:
        raise Retryable("timeout", f"{where} does not answer: is it on, and reachable from here?") from None
    except OSError as error:
        code = error.errno or errno.EIO
    if code in (errno.ECONNREFUSED, errno.ENOENT):
        raise Retryable("refused", f"nothing listens at {where} ({os.strerror(code)}): is the broker running?")
    if code:
        raise Retryable("unreachable", f"{where} cannot be reached: {os.strerror(code)}")


async def shake_hands(sock: socket.socket, deadline: float, settings: LinkSettings) -> None:
    """The TLS handshake of a connected socket. Raises Retryable."""
    assert isinstance(sock, ssl.SSLSocket)
    where = str(settings.url)
    while True:
        try:
            sock.do_handshake()
            return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
            for_write = isinstance(want, ssl.SSLWantWriteError)
        except OSError as error:
            raise Refusal("tls", f"TLS with {where} failed: {explain_tls(error, settings)}") from None
        try:
            await until_ready(sock, for_write, deadline)
        except TimeoutError:
            raise Retryable(
                "timeout", f"{where} accepts connections but stays silent in the TLS handshake: is it a TLS port?"
            ) from None


async def upgrade(sock: socket.socket, deadline: float, url: BrokerUrl) -> WebSocket:
    """The opening handshake of a websocket. Raises Retryable."""
    key = new_key()
    out, came = request(url.host, url.port, url.path, key), b""
    try:
        while out:
            out = out[await _when_ready(sock, partial(sock.send, out), deadline) :]
        while b"\r\n\r\n" not in came:
            data = await _when_ready(sock, partial(sock.recv, MAX_HEAD), deadline)
            came += data
            if not data or len(came) > MAX_HEAD:
                raise BadAnswer(
                    "it closes the connection during the handshake" if not data else "its answer to the handshake has no end"
                )
        head, _, rest = came.partition(b"\r\n\r\n")
        check_answer(head, key)
        return WebSocket(sock, rest)
    except BadAnswer as error:
        raise Refusal(
            "websocket",
            f"{url} does not serve MQTT over a websocket: {error}; is the path right ({url.path}), and is this its port for ws?",
        ) from None
    except TimeoutError:
        raise Retryable(
            "timeout", f"{url} accepts connections but does not answer as a websocket: is this its port for ws?"
        ) from None
    except OSError as error:
        raise Retryable("lost", f"{url} ends the connection in the websocket's handshake: {error.strerror or error}") from None


async def _when_ready(sock: socket.socket, work: Callable[[], T], deadline: float) -> T:
    """What a call gives that must not block. Raises TimeoutError at `deadline` (loop time)."""
    while True:
        try:
            return work()
        except (BlockingIOError, ssl.SSLWantReadError):
            await until_ready(sock, False, deadline)
        except ssl.SSLWantWriteError:
            await until_ready(sock, True, deadline)


def explain_tls(error: OSError, settings: LinkSettings | None = None) -> str:
    """The reason for a technician, with its fix; a wrong clock looks like a bad certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message).rstrip(".") + _certificate_fix(error.verify_code, settings)
    reason = getattr(error, "reason", None)
    if reason in TLS_FAULTS:
        return f"{TLS_FAULTS[reason]} ({reason})"
    if isinstance(error, ConnectionResetError):
        return HUNG_UP
    return str(reason or error.strerror or error)


def _certificate_fix(code: int, settings: LinkSettings | None) -> str:
    if code in (CERT_NOT_YET_VALID, CERT_EXPIRED):
        now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
        return f"; this machine's clock says {now} UTC: if that is wrong, set it, else the broker needs a new certificate"
    if settings is None:
        return ""
    if code in UNKNOWN_AUTHORITY:
        if settings.ca is None:
            return f"; if its authority is your own, set broker.{settings.name}.ca to that authority's certificate"
        return f"; it was not signed by the authority in {settings.ca}: set ca to the one that signed it"
    if code in OTHER_NAME:
        where = f"{settings.url.host}:{settings.url.port}"
        return f"; use the name that it is for in broker.{settings.name}.url (openssl s_client -connect {where} shows it)"
    if code in WEAK_KEY:
        return "; the broker needs a certificate with a key of 2048 bits (RSA) or more"
    return ""


async def until_ready(sock: socket.socket, for_write: bool, deadline: float) -> None:
    """Waits until a socket can be read or written. Raises TimeoutError at `deadline` (loop time)."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None = None) -> None:
        if ready.done():
            return
        if error:
            ready.set_exception(error)
        else:
            ready.set_result(None)

    fd = sock.fileno()
    timer = loop.call_at(deadline, settle, TimeoutError())
    (loop.add_writer if for_write else loop.add_reader)(fd, settle)
    try:
        await ready
    finally:
        timer.cancel()
        (loop.remove_writer if for_write else loop.remove_reader)(fd)
