"""What nobody needs any more and only a collection finds, as parts that know each other.

A collection looks at all objects that live, and holds the loop meanwhile: 80 ms where there are 500 pipelines. So what lives long
is set aside (`gc.freeze`), where no collection looks; and what of that has become garbage since is found once in a while.
"""

from __future__ import annotations

import gc

EVERY = 32
"""After so many changes everything is looked at."""


class Garbage:
    """Of one process, whose parts are changed now and then."""

    def __init__(self) -> None:
        self._changes = 0

    def set_aside(self) -> None:
        """What lives now lives long."""
        gc.freeze()

    def collect(self, is_large: bool) -> None:
        """After a change; `is_large`: what went is worth a look at everything."""
        self._changes += 1
        if is_large or self._changes >= EVERY:
            self._changes = 0
            gc.unfreeze()
        gc.collect()
        gc.freeze()
