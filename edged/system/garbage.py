"""What nobody needs any more and only a collection finds, as parts that know each other.

A collection looks at all objects that live, and blocks the loop for it: 80 ms with 500 pipelines. So what lives long
is set aside (`gc.freeze`), where no collection looks; and what of that has become garbage since is found once in a while. The
collector is one for the process, and so is what is here.
"""

from __future__ import annotations

import gc
import itertools

EVERY = 32
"""After so many changes everything is looked at."""
CHANGES = itertools.count(1)


def set_aside() -> None:
    """What lives now lives long."""
    gc.freeze()


def collect(is_large: bool) -> None:
    """After a change of parts; `is_large`: what went is worth a look at everything."""
    if next(CHANGES) % EVERY == 0 or is_large:
        gc.unfreeze()
    gc.collect()
    gc.freeze()
