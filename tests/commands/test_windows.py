from __future__ import annotations

import numpy as np

from edged.commands.windows import default_size, together
from edged.learn.rounds import Heard


def test_a_window_is_half_a_second_of_a_fast_sensor() -> None:
    assert [default_size(rate) for rate in (None, 1.0, 20.0, 100.0, 1000.0, 48000.0)] == [1, 1, 16, 64, 512, 8192]


def test_a_key_is_the_same_in_all_recordings_which_follow_each_other() -> None:
    first = Heard(np.zeros((2, 1, 1), np.float32), [0, 1], [100, 110], {0: "a", 1: "b"}, 2)
    second = Heard(np.ones((2, 1, 1), np.float32), [0, 1], [500, 530], {0: "b", 1: "c"}, 3)
    both = together([first, second])
    assert (both.keys, both.times, both.samples) == ([0, 1, 1, 2], [0, 10, 10, 40], 5)
    assert both.names == {0: "a", 1: "b", 2: "c"}
    assert both.windows.ravel().tolist() == [0, 0, 1, 1]
