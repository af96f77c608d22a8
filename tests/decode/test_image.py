from __future__ import annotations

import gc
import io
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edged.config import schema
from edged.decode import DecodePlan, make_payload_decoder, plan_decode
from edged.decode.picture_file import picture_file
from edged.decode.resize import PADDING, View
from edged.decode.stream import make_stream_decoder
from edged.plan.memory import picture_bytes
from tests.support.decode_plans import reasons
from tests.support.pictures import (
    BLUE,
    GREEN,
    RED,
    encoded,
    hostile,
    jpeg,
    laden,
    oriented,
    pixels,
    png,
    png_with,
    tiff,
    webp,
)

SQUARE = View((32, 32), "stretch", "rgb")


def plan(*views: View, max_pixels: int = 1 << 20, max_bytes: int = 1 << 20, frame: schema.Frame | None = None) -> DecodePlan:
    decode = schema.Decode(format="image", fields=(schema.FieldSpec(name="image"),), max_pixels=max_pixels)
    planned = plan_decode(decode, max_bytes=max_bytes, frame=frame, views=views)
    assert isinstance(planned, DecodePlan)
    return planned


def seen(view: View, payload: bytes) -> np.ndarray:
    rows = make_payload_decoder(plan(view)).decode([payload])
    assert not rows.rejects, rows.rejects
    return np.asarray(rows.values[0]).reshape(view.shape)


@pytest.mark.parametrize("encode", [jpeg, png])
def test_letterbox_keeps_the_proportions_and_pads(encode: object) -> None:
    picture = pixels(64, 32, (0, 0, 64, 32, RED), (32, 0, 64, 32, BLUE))
    shown = seen(View((32, 32), "letterbox", "rgb"), encode(picture))  # type: ignore[operator]
    assert (shown[:8] == PADDING).all()
    assert (shown[24:] == PADDING).all()
    assert np.abs(shown[8:24, :14].astype(int) - RED).max() < 6
    assert np.abs(shown[8:24, 18:].astype(int) - BLUE).max() < 6


def test_stretch_and_crop() -> None:
    picture = png(pixels(64, 32, (0, 0, 16, 32, RED), (16, 0, 48, 32, GREEN), (48, 0, 64, 32, BLUE)))
    stretched = seen(View((32, 32), "stretch", "rgb"), picture)
    assert stretched[16, [2, 16, 30]].tolist() == [list(RED), list(GREEN), list(BLUE)]
    cropped = seen(View((32, 32), "crop", "rgb"), picture)
    assert (cropped == GREEN).all()
    enlarged = seen(View((128, 128), "crop", "rgb"), picture)
    assert (enlarged[:, 4:-4] == GREEN).all()


def test_what_is_said_of_a_broken_one_names_no_place_in_memory() -> None:
    rows = make_payload_decoder(plan(SQUARE)).decode([png(pixels(32, 32))[:40], b"\xff\xd8"])
    assert [r.reason for r in rows.rejects] == ["malformed"] * 2
    assert not any("0x" in r.detail for r in rows.rejects)


def test_order_of_colours() -> None:
    picture = png(pixels(32, 32, (0, 0, 32, 32, (200, 100, 50))))
    assert seen(SQUARE, picture)[0, 0].tolist() == [200, 100, 50]
    assert seen(View((32, 32), "stretch", "bgr"), picture)[0, 0].tolist() == [50, 100, 200]
    assert seen(View((32, 32), "stretch", "gray"), picture)[0, 0].tolist() == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]


def test_several_views_lie_side_by_side() -> None:
    views = (SQUARE, View((8, 4), "letterbox", "gray"), View((4, 4), "crop", "bgr"))
    planned = plan(*views)
    assert planned.width == 32 * 32 * 3 + 8 * 4 + 4 * 4 * 3
    rows = make_payload_decoder(planned).decode([png(pixels(64, 32, (0, 0, 64, 32, RED)))] * 2)
    assert rows.values.shape == (2, planned.width)
    assert rows.carried == [b'{"width":64,"height":32}'] * 2
    for field, view in zip(planned.fields, views, strict=True):
        alone = make_payload_decoder(plan(view)).decode([png(pixels(64, 32, (0, 0, 64, 32, RED)))])
        assert (rows.values[0, field.start : field.stop] == alone.values[0]).all()


def test_a_picture_of_the_wanted_size_is_not_touched() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert (seen(SQUARE, png(picture)) == picture).all()
    assert (seen(View((32, 32), "letterbox", "rgb"), png(picture)) == picture).all()
    assert (seen(View((32, 32), "crop", "rgb"), png(picture)) == picture).all()


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same() -> None:
    smooth = np.asarray(Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 8, 3)).astype(np.uint8)).resize((800, 600)))
    for fit in ("stretch", "letterbox", "crop"):
        view = View((40, 40), fit, "rgb")
        by_jpeg, by_png = (seen(view, encode(smooth)).astype(int) for encode in (jpeg, png))
        assert np.abs(by_jpeg - by_png).mean() < 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_other_kinds_of_pixels_become_colours(mode: str) -> None:
    picture = Image.fromarray(pixels(32, 32, (0, 0, 32, 32, (255, 255, 255)))).convert(mode)
    file = io.BytesIO()
    picture.save(file, "PNG", **({"transparency": 0} if mode == "P" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (seen(SQUARE, file.getvalue()) == 255).all()


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("encode", [jpeg, png, webp])
def test_a_picture_is_seen_as_its_exif_data_says(encode: Any, orientation: int, fit: str) -> None:
    """The same as what Pillow turns first and is then decoded; the size that is told is the upright one."""
    stored = Image.fromarray(pixels(60, 36, (0, 0, 30, 18, RED), (30, 0, 60, 18, GREEN), (0, 18, 30, 36, BLUE)))
    payload = encode(stored, exif=oriented(orientation))
    upright = png(ImageOps.exif_transpose(Image.open(io.BytesIO(payload))))
    views = View((24, 32), fit, "rgb"), View((60, 36), fit, "gray")
    decoder = make_payload_decoder(plan(*views))
    turned, straight = decoder.decode([payload]), decoder.decode([upright])
    assert not turned.rejects
    assert np.abs(turned.values.astype(int) - straight.values).max() <= 3
    assert turned.carried == straight.carried == [b'{"width":36,"height":60}' if orientation > 4 else b'{"width":60,"height":36}']


def test_a_large_turned_jpeg_is_decoded_smaller_too() -> None:
    stored = Image.fromarray(pixels(1024, 640, (0, 0, 512, 320, RED), (512, 320, 1024, 640, BLUE)))
    rows = make_payload_decoder(plan(View((40, 64), "stretch", "rgb"))).decode([jpeg(stored, exif=oriented(6))])
    seen_so = rows.values[0].reshape(64, 40, 3)
    assert np.abs(seen_so[8, 32].astype(int) - RED).max() < 6
    assert np.abs(seen_so[56, 8].astype(int) - BLUE).max() < 6


def test_the_first_picture_of_several_in_a_jpeg() -> None:
    red, green = (Image.fromarray(pixels(16, 16, (0, 0, 16, 16, color))) for color in (RED, GREEN))
    assert np.abs(seen(SQUARE, encoded(red, "MPO", save_all=True, append_images=[green])).astype(int) - RED).max() < 6


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"quality": 30}])
def test_a_jpeg_without_its_end_is_whole_if_its_pixels_are(options: dict[str, Any]) -> None:
    """Without the last two bytes it is the same picture; without more of them it is refused."""
    random = np.random.default_rng(3)
    for width, height in ((64, 48), (17, 31), (8, 8), (90, 20)):
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3)).astype(np.uint8))
        whole = encoded(picture, "JPEG", **options)
        decoder = make_payload_decoder(plan(View((width, height), "stretch", "rgb")))
        same = decoder.decode([whole, whole[:-2]])
        assert not same.rejects
        assert (same.values[0] == same.values[1]).all()
        cut = decoder.decode([whole[:-6], whole[: len(whole) * 3 // 4]])
        assert reasons(cut.rejects) == ["malformed", "malformed"]
        assert "its end is missing, and pixels with it: truncated" in cut.rejects[0].detail


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp(mode: str, lossless: bool) -> None:
    picture = Image.fromarray(pixels(32, 32, (0, 0, 32, 32, GREEN))).convert(mode)
    payload = encoded(picture, "WEBP", lossless=lossless, quality=95, exif=oriented(1), xmp=b"<x/>" * 1000)
    assert np.abs(seen(SQUARE, payload).astype(int) - GREEN).max() < 8
    assert b"EXIF" not in picture_file(payload).data


@pytest.mark.parametrize("name", hostile())
def test_hostile_ones_are_refused_by_themselves(name: str) -> None:
    payload, reason, words = hostile()[name]
    good = png(pixels(8, 8, (0, 0, 8, 8, GREEN)))
    rows = make_payload_decoder(plan(SQUARE)).decode([good, payload, good])
    assert reasons(rows.rejects) == [reason]
    assert words in rows.rejects[0].detail
    assert (rows.rejects[0].payload, rows.rejects[0].data) == (1, payload[:4096])
    assert rows.payload is not None
    assert rows.payload.tolist() == [0, 2]
    assert (rows.values.reshape(2, 32, 32, 3) == GREEN).all()


@pytest.mark.parametrize("name", laden())
def test_what_no_pixel_needs_costs_nothing(name: str) -> None:
    rows = make_payload_decoder(plan(SQUARE, max_bytes=8 << 20)).decode([laden()[name]])
    assert not rows.rejects, rows.rejects
    assert np.abs(rows.values[0].reshape(32, 32, 3).astype(int) - GREEN).max() < 6


MEASURE = """
import ctypes, os, sys
from pathlib import Path
from typing import Any
from edged.decode import make_payload_decoder
from tests.decode.test_image import plan, views_of
from tests.support.pictures import pixels, png

def kib(name):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))

def measure(payload, views):
    decoder = make_payload_decoder(plan(*views_of(views), max_pixels=1 << 21, max_bytes=4 << 20))
    decoder.decode([png(pixels(8, 8))])
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before = kib("VmRSS:")
    rows = decoder.decode([payload])
    print(kib("VmHWM:") - before, len(rows.values), len(rows.rejects), flush=True)

for line in sys.stdin:
    if pid := os.fork():
        os.waitpid(pid, 0)
    else:
        views, path = line.rstrip().split(" ", 1)
        measure(Path(path).read_bytes(), views)
        os._exit(0)
"""


@pytest.fixture(scope="module")
def measuring() -> Iterator[subprocess.Popen[str]]:
    """Decodes each picture in a process of its own, which starts as a copy of one that has imported everything."""
    with subprocess.Popen([sys.executable, "-c", MEASURE], stdin=PIPE, stdout=PIPE, stderr=STDOUT, text=True) as one:
        yield one
        one.communicate()
    assert one.returncode == 0


def views_of(name: str) -> tuple[View, ...]:
    """`small`: much smaller than the picture; `large`: about as large, in colour and gray."""
    if name == "small":
        return (SQUARE,)
    return View((640, 640), "letterbox", "rgb"), View((640, 512), "stretch", "gray")


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{mode: ("PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "JPEG": ("JPEG", {"quality": 60, "subsampling": 0}),
    "progressive": ("JPEG", {"quality": 60, "subsampling": 0, "progressive": True}),
    "WebP": ("WEBP", {"quality": 60}),
    "WebP without loss": ("WEBP", {"lossless": True}),
    "WebP with alpha": ("WEBP", {"quality": 60}),
    "tall": ("PNG", {}),
    "laden": ("PNG", {}),
}


@pytest.mark.parametrize("views", ["small", "large"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_picture_takes_more_than_is_planned(
    kind: str, views: str, measuring: subprocess.Popen[str], tmp_path: Path
) -> None:
    format, options = KINDS[kind]
    width, height = (32, 65_535) if kind == "tall" else (2048, 1024)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    if format == "WEBP":
        noise = noise[: height // 3]
    mode = {"tall": "RGBA", "laden": "RGB", "WebP with alpha": "RGBA"}.get(kind, "RGB" if format in ("JPEG", "WEBP") else kind)
    if format == "PNG":
        noise[:] = 0  # of a file of few bytes
    payload = encoded(Image.fromarray(noise).convert(mode), format, **options)
    if kind == "laden":
        payload = laden()["1,200 tags over one region"]
    (tmp_path / "picture").write_bytes(payload)
    assert measuring.stdin
    assert measuring.stdout
    print(views, tmp_path / "picture", file=measuring.stdin, flush=True)
    taken, rows, rejects = map(int, measuring.stdout.readline().split())
    assert (rows, rejects) == (1, 0)
    planned = plan(*views_of(views), max_pixels=1 << 21, max_bytes=4 << 20)
    assert taken * 1024 <= picture_bytes(planned) + planned.width
    assert taken < 40_000


def test_nothing_is_left_of_a_picture() -> None:
    """A library that warns keeps each text forever; one that is never shown what is wrong has nothing to say."""
    decoder = make_payload_decoder(plan(SQUARE))

    def decode(start: int) -> int:
        for i in range(start, start + 200):
            broken = tiff(*((tag, 2, 1000 + i, 0x7FFFFFFF - i) for tag in range(1, 20)))
            assert not decoder.decode([png_with((b"eXIf", broken), (b"tRNS", b"%d" % i))]).rejects
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = decode(0)
        assert decode(200) - before < 200 * 150  # the interpreter's own caches, which have an end
    finally:
        tracemalloc.stop()


def test_the_limits_are_those_of_the_plan() -> None:
    picture = png(pixels(33, 32))
    decoder = make_payload_decoder(plan(SQUARE, max_pixels=32 * 32))
    assert reasons(decoder.decode([picture, png(pixels(32, 32))]).rejects) == ["too_large"]
    assert "at most 1024 are taken (max_pixels)" in decoder.decode([picture]).rejects[0].detail
    short = make_payload_decoder(plan(SQUARE, max_bytes=len(picture) - 1))
    assert "(max_bytes)" in short.decode([picture]).rejects[0].detail


def test_nothing_to_decode() -> None:
    assert make_payload_decoder(plan(SQUARE)).decode([]).values.shape == (0, SQUARE.nbytes)


def test_frames_of_a_stream() -> None:
    """As a camera on a serial port sends them: each with its length before it."""
    frame = schema.Frame(type="length", length="uint32", sync=b"\xaa\x55")
    pictures = [png(pixels(16, 16, (0, 0, 16, 16, color))) for color in (RED, GREEN, BLUE)]
    data = b"".join(b"\xaa\x55" + len(p).to_bytes(4, "little") + p for p in [*pictures[:2], b"no picture", pictures[2]])
    for size in (7, len(data)):
        decoder = make_stream_decoder(plan(SQUARE, frame=frame))
        fed = [rows for i in range(0, len(data), size) if (rows := decoder.feed(data[i : i + size])) is not None]
        values = np.concatenate([rows.values for rows in fed])
        assert values.reshape(-1, 32, 32, 3)[:, 0, 0].tolist() == [list(RED), list(GREEN), list(BLUE)]
        assert reasons([r for rows in fed for r in rows.rejects]) == ["malformed"]
        assert [text for rows in fed for text in rows.carried or ()] == [b'{"width":16,"height":16}'] * 3


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_a_picture_or_a_refusal(data: st.DataObject) -> None:
    payload = bytearray(data.draw(st.sampled_from([jpeg(pixels(24, 24, (4, 4, 20, 20, RED))), png(pixels(24, 24))])))
    for _ in range(data.draw(st.integers(1, 6))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = make_payload_decoder(plan(SQUARE, max_pixels=4096)).decode([bytes(payload)])
    assert len(rows.values) + len(rows.rejects) == 1


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    decode = schema.Decode(format="image", fields=(schema.FieldSpec(name="image"),))
    [problem] = plan_decode(decode)  # type: ignore[misc]
    assert (problem.path, problem.text) == ("decode.format", '"image" needs the package Pillow: pip install "edged[image]"')
