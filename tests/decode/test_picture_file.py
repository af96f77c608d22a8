from __future__ import annotations

import contextlib
import io
import warnings
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edged.decode.picture_file import MAX_TAGS, picture_file
from edged.decode.values import BadPayload
from tests.support.pictures import RED, encoded, jpeg, jpeg_with, laden, oriented, pixels, png, png_with, segment, tiff, webp

TURNED = (0x0112, 3, 1, 6)
XMP = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><rdf tiff:Orientation="8"/></x:xmpmeta>'
HEXED = b"Exif\0\0" + tiff(TURNED)
PROFILE = b"\nexif\n      %d\n%s\n" % (len(HEXED), HEXED.hex().encode())


def parts(data: bytes) -> list[bytes]:
    """The kinds of the chunks of a PNG, or of the segments of a JPEG up to its first scan."""
    found, at = [], 2 if data.startswith(b"\xff\xd8") else 8
    while at < len(data):
        if at == 2 or data.startswith(b"\xff\xd8"):
            found.append(data[at + 1 : at + 2])
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if found[-1] == b"\xda":
                return found
        else:
            found.append(data[at + 4 : at + 8])
            at += 12 + int.from_bytes(data[at : at + 4], "big")
    return found


@pytest.mark.parametrize("name", laden())
def test_a_library_sees_only_what_the_pixels_need(name: str) -> None:
    file = picture_file(laden()[name])
    assert len(file.data) < 2000
    assert (file.orientation, file.frames) == (1, 1)
    kinds = set(parts(file.data))
    if file.data.startswith(b"\x89PNG"):
        assert kinds == {b"IHDR", b"IDAT", b"IEND"}
    else:
        assert kinds == {b"\xe0", b"\xdb", b"\xc0", b"\xc4", b"\xda"}


@pytest.mark.parametrize(
    ("payload", "orientation"),
    [
        (jpeg(pixels(8, 8)), 1),
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff(TURNED))), 6),
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff((0x0112, 3, 1, 8 << 16), order=">"))), 8),
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff((0x0112, 4, 1, 3), order=">"))), 3),
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff((0x0112, 1, 1, 5)))), 5),
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff((0x0112, 2, 1, 6)))), 1),  # a text
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff(*((i, 3, 1, 1) for i in range(0x100, 0x112)), TURNED))), 6),
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff(*((i, 3, 1, 1) for i in range(MAX_TAGS)), TURNED))), 1),
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff((0x0112, 3, 1, 0)))), 1),  # as some write who do not know
        (jpeg_with(segment(0xE1, b"Exif\0\0" + tiff((0x0112, 3, 1, 9)))), 1),
        (webp(pixels(8, 8), exif=oriented(7)), 7),
        (jpeg_with(segment(0xE1, b"Exif\0\0II*")), 1),
        (jpeg_with(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")), 1),
        (jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)), 8),
        (jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP), segment(0xE1, b"Exif\0\0" + tiff(TURNED))), 6),
        (png_with((b"eXIf", tiff(TURNED))), 6),
        (png_with((b"tEXt", b"Raw profile type exif\0" + PROFILE)), 6),
        (png_with((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(PROFILE))), 6),
        (png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)), 8),
        (png_with((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))), 8),
        (png_with((b"zTXt", b"Raw profile type exif\0\0no zlib"), (b"tEXt", b"Raw profile type exif\0\n\n\nxyz")), 1),
        (png_with()[:-12] + png_with((b"eXIf", tiff(TURNED)))[33:], 6),  # said after its pixels
    ],
)
def test_how_it_is_to_be_turned(payload: bytes, orientation: int) -> None:
    assert picture_file(payload).orientation == orientation


ENTRY = st.tuples(st.sampled_from([0x0100, 0x010F, 0x0112, 0x0131]), st.sampled_from([3, 4]), st.just(1), st.integers(1, 8))


@settings(max_examples=200, deadline=None)
@given(st.lists(ENTRY, max_size=6, unique_by=lambda entry: entry[0]), st.sampled_from("<>"), st.booleans())
def test_it_is_turned_as_pillow_turns_it(entries: list[tuple[int, int, int, int]], order: str, is_png: bool) -> None:
    if order == ">":  # a short number lies at the left of its four bytes
        entries = [(tag, kind, count, value << {3: 16, 4: 0}[kind]) for tag, kind, count, value in entries]
    exif = tiff(*entries, order=order)
    payload = png_with((b"eXIf", exif)) if is_png else jpeg_with(segment(0xE1, b"Exif\0\0" + exif))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert picture_file(payload).orientation == Image.open(io.BytesIO(payload)).getexif().get(0x0112, 1)


def test_how_many_there_are() -> None:
    frames = [Image.fromarray(pixels(16, 16, (0, 0, n, n, RED))) for n in (4, 8, 12)]
    assert picture_file(encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])).frames == 3
    several = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert several.count(b"\xff\xd9") == 3
    assert picture_file(several).data.count(b"\xff\xd9") == 1  # the first, which is what is seen
    assert picture_file(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])).frames == 3
    gain_map = segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>')
    assert picture_file(several[:2] + gain_map + several[2:]).frames == 1
    assert picture_file(png_with((b"acTL", bytes(8)))).frames == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_the_pixels_are_those_of_the_whole_file(mode: str) -> None:
    picture = Image.fromarray(pixels(40, 30, (4, 4, 20, 20, RED))).convert(mode)
    exif = Image.Exif()
    exif[0x010F] = "x" * 1000
    whole = [encoded(picture, "PNG", exif=exif, icc_profile=bytes(500), dpi=(72, 72))]
    if mode in ("L", "RGB"):
        whole += [encoded(picture, "JPEG", exif=exif, icc_profile=bytes(500), comment=b"c" * 300, progressive=p) for p in (0, 1)]
    for payload in whole:
        data = picture_file(payload).data
        assert len(data) < len(payload) - 1000
        assert Image.open(io.BytesIO(data)).tobytes() == Image.open(io.BytesIO(payload)).tobytes()


def test_line_ends_before_a_picture_are_nothing() -> None:
    for data in (jpeg(pixels(8, 8)), png(pixels(8, 8))):
        assert picture_file(b"\r\n" + data) == picture_file(data)


def test_bytes_between_segments_are_nothing() -> None:
    good = jpeg(pixels(16, 16, (0, 0, 16, 16, RED)))
    assert picture_file(good[:2] + b"junk" + b"\xff" * 100 + good[2:]).data == good


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_ends_in_a_copy_or_a_refusal(data: st.DataObject) -> None:
    whole = [jpeg_with(segment(0xE1, b"Exif\0\0" + tiff(TURNED))), png_with((b"eXIf", tiff(TURNED))), png(pixels(9, 9))]
    payload = bytearray(data.draw(st.sampled_from(whole)))
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    del payload[data.draw(st.integers(0, len(payload))) :]
    with contextlib.suppress(BadPayload):
        assert len(picture_file(bytes(payload)).data) <= len(payload)
