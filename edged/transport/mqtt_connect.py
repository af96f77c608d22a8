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
from datetime import datetime, timezone
from typing import Any

from edged.errors import Retryable
from edged.transport.mqtt_settings import LinkSettings
from edged.transport.one_shot import start_one_shot_thread

SocketAddress = tuple[Any, ...] | str
Address = tuple[socket.AddressFamily, SocketAddress]

CERT_NOT_YET_VALID, CERT_EXPIRED = 9, 10  # X509_V_ERR_*


class Refusal(Retryable):
    """The other side said no, or our own files are wrong: trying again soon would not help."""


class Connector:
    """Opens sockets to one broker. Keeps what is worth keeping between attempts: a look-up that has not come back."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._prepared: asyncio.Future[tuple[list[Address], ssl.SSLContext | None]] | None = None

    async def open(self, timeout_s: float) -> socket.socket:
        """A connected, non-blocking socket; for `mqtts` an `ssl.SSLSocket` after its handshake.

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
    ) -> socket.socket:
        url = self._settings.url
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await connect(sock, address, deadline, str(url))
            if context is None:
                return sock
            # Takes the file descriptor over; from here on closing `sock` closes the TLS socket.
            sock = context.wrap_socket(sock, server_hostname=url.host, do_handshake_on_connect=False)
            await shake_hands(sock, deadline, str(url))
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
        context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Python 3.13 began to insist on extensions that home-made authorities leave out; signatures, dates and names are
        # checked all the same. One configuration, one behaviour.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if settings.cert and settings.key:
            load_client_certificate(context, str(settings.cert), settings.key.reveal())
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        names = ", ".join(str(f) for f in (settings.ca, settings.cert) if f)
        raise Refusal("files", f"cannot use the TLS files of broker {settings.name} ({names}): {error}") from None
    return context


def load_client_certificate(context: ssl.SSLContext, cert: str, key: str) -> None:
    """`cert` is a path, `key` PEM text: it passes through memory only, since OpenSSL wants a file's name."""
    fd = os.memfd_create("edged-key", os.MFD_CLOEXEC)
    try:
        os.write(fd, key.encode())
        context.load_cert_chain(cert, f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


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


async def shake_hands(sock: socket.socket, deadline: float, where: str) -> None:
    """The TLS handshake of a connected socket. Raises Retryable."""
    assert isinstance(sock, ssl.SSLSocket)
    while True:
        try:
            sock.do_handshake()
            return
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
            for_write = isinstance(want, ssl.SSLWantWriteError)
        except OSError as error:
            raise Refusal("tls", f"TLS with {where} failed: {explain_tls(error)}") from None
        try:
            await until_ready(sock, for_write, deadline)
        except TimeoutError:
            raise Retryable(
                "timeout", f"{where} accepts connections but stays silent in the TLS handshake: is it a TLS port?"
            ) from None


def explain_tls(error: OSError) -> str:
    """The reason for a technician; a wrong clock looks like a bad certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = str(error.verify_message)
        if error.verify_code in (CERT_NOT_YET_VALID, CERT_EXPIRED):
            now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
            text += f"; this machine's clock says {now} UTC: if that is wrong, set it"
        return text
    return str(getattr(error, "reason", None) or error.strerror or error)


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
