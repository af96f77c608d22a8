from __future__ import annotations

import pytest

from edged.decode.resize import Placed, View, place, sent, size_sent


@pytest.mark.parametrize(
    ("size", "fit", "picture", "expected"),
    [
        ((640, 640), "letterbox", (1920, 1080), Placed(0, 140, 640, 360)),
        ((640, 640), "letterbox", (480, 640), Placed(80, 0, 480, 640)),
        ((640, 640), "letterbox", (641, 333), Placed(0, 154, 640, 332)),
        ((640, 480), "letterbox", (100000, 1), Placed(0, 239, 640, 1)),
        ((96, 96), "stretch", (1920, 1080), Placed(0, 0, 96, 96)),
        ((100, 100), "crop", (400, 200), Placed(-50, 0, 200, 100)),
        ((100, 50), "crop", (100, 100), Placed(0, -25, 100, 100)),
        ((64, 64), "crop", (64, 64), Placed(0, 0, 64, 64)),
    ],
)
def test_where_a_picture_goes(size: tuple[int, int], fit: str, picture: tuple[int, int], expected: Placed) -> None:
    assert place(View(size, fit, "rgb"), picture) == expected


def test_a_view_is_height_width_and_colours() -> None:
    assert View((64, 48), "crop", "bgr").shape == (48, 64, 3)
    assert View((64, 48), "crop", "gray").shape == (48, 64, 1)
    assert View((64, 48), "crop", "gray").nbytes == 64 * 48


def test_a_size_is_carried() -> None:
    assert sent((1920, 1080)) == b'{"width":1920,"height":1080}'
    assert size_sent(sent((1920, 1080))) == (1920, 1080)
