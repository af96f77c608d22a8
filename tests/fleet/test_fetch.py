"""Files over https from a server with its own CA: whole and proved, or not at all and why; cut off, it goes on."""

from __future__ import annotations

import hashlib
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from edged.fleet.announcement import Refused
from edged.fleet.fetch import Cancelled, Failed, Limits, fetch
from tests.support.fleet import Server

DATA = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


def fetched(server: Server, folder: Path, path: str = "/m", size: int = len(DATA), digest: str = DIGEST, **more: Any) -> Path:
    context = ssl.create_default_context(cafile=str(server.ca))
    limits = more.pop("limits", Limits(1 << 30))
    is_cancelled = more.pop("is_cancelled", lambda: False)
    return fetch(server.url + path[1:], digest, size, folder, context, limits, is_cancelled)


def test_whole_and_proved(server: Server, tmp_path: Path) -> None:
    server.files["/m"] = DATA
    assert fetched(server, tmp_path).read_bytes() == DATA
    assert fetched(server, tmp_path).read_bytes() == DATA
    assert len(server.asked) == 1  # the second time it was there


@pytest.mark.parametrize("cut", [0, 1, 100_000, len(DATA) - 1, len(DATA)])
def test_goes_on_where_it_was_cut_off(server: Server, tmp_path: Path, cut: int) -> None:
    server.files["/m"] = DATA
    (tmp_path / f"{DIGEST}.part").write_bytes(DATA[:cut])
    assert fetched(server, tmp_path).read_bytes() == DATA
    assert server.asked == ([("/m", f"bytes={cut}-" if cut else "")] if cut < len(DATA) else [])


def test_a_server_that_knows_no_ranges(server: Server, tmp_path: Path) -> None:
    def whole(request: Any, data: bytes) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(data)

    server.files["/m"], server.behaviour["/m"] = DATA, whole
    (tmp_path / f"{DIGEST}.part").write_bytes(b"y" * 5000)
    assert fetched(server, tmp_path).read_bytes() == DATA


def test_another_hash(server: Server, tmp_path: Path) -> None:
    server.files["/m"] = b"x" + DATA[1:]
    with pytest.raises(Refused, match="another SHA-256"):
        fetched(server, tmp_path)
    assert list(tmp_path.glob(f"{DIGEST}*")) == []


@pytest.mark.parametrize("change", [-1, 1])
def test_another_size(server: Server, tmp_path: Path, change: int) -> None:
    server.files["/m"] = DATA
    with pytest.raises(Refused, match="bytes"):
        fetched(server, tmp_path, size=len(DATA) + change)


def test_a_redirect_is_followed_nowhere(server: Server, tmp_path: Path) -> None:
    def elsewhere(request: Any, data: bytes) -> None:
        request.send_response(302)
        request.send_header("Location", server.url + "m")
        request.end_headers()

    server.files["/m"], server.behaviour["/r"] = DATA, elsewhere
    with pytest.raises(Refused, match="redirects"):
        fetched(server, tmp_path, "/r")
    assert [path for path, _ in server.asked] == ["/r"]


def test_not_found_may_come_later(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="404"):
        fetched(server, tmp_path)


def test_one_byte_a_second(server: Server, tmp_path: Path) -> None:
    def dribble(request: Any, data: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        for byte in data:
            request.wfile.write(bytes([byte]))
            if server.stop.wait(0.02):
                return

    server.files["/m"], server.behaviour["/m"] = DATA, dribble
    with pytest.raises(Failed, match="less than 1000 bytes per second"):
        fetched(server, tmp_path, limits=Limits(1 << 30, min_rate=1000, patience_s=0.2))
    assert 0 < (tmp_path / f"{DIGEST}.part").stat().st_size < 1000  # the next try goes on from there


def test_a_connection_that_ends_early(server: Server, tmp_path: Path) -> None:
    def short(request: Any, data: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[:1000])

    server.files["/m"], server.behaviour["/m"] = DATA, short
    with pytest.raises(Failed, match="after 1000 of"):
        fetched(server, tmp_path)


def test_somebody_elses_certificate(server: Server, tmp_path: Path) -> None:
    server.files["/m"] = DATA
    with pytest.raises(Failed, match="certificate is not valid"):
        fetch(server.url + "m", DIGEST, len(DATA), tmp_path, ssl.create_default_context(), Limits(1 << 30), lambda: False)


def test_a_full_disk(server: Server, tmp_path: Path) -> None:
    server.files["/m"] = DATA
    (tmp_path / f"{DIGEST}.part").symlink_to("/dev/full")
    with pytest.raises(OSError):  # noqa: PT011 (a link is no file of ours; what a full disk says is in tests/live)
        fetched(server, tmp_path)


def test_no_faster_than_allowed_and_cancelled_in_between(server: Server, tmp_path: Path) -> None:
    server.files["/m"] = DATA
    asked = [0]

    def is_cancelled() -> bool:
        asked[0] += 1
        return asked[0] > 3

    with pytest.raises(Cancelled):
        fetched(server, tmp_path, limits=Limits(1 << 16), is_cancelled=is_cancelled)
    began = time.monotonic()
    fetched(server, tmp_path, limits=Limits(1 << 18))
    assert time.monotonic() - began > 0.4  # what is left of 250 KiB at 256 KiB a second
