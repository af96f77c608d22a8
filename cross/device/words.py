"""What the device says: lines of JSON on standard output, and the one error that stops a deploy before the switch."""

from __future__ import annotations

import json
import sys
from typing import Any


class Refused(Exception):
    """It cannot go on; the text says why and what to do. Nothing was switched."""


def say(text: str) -> None:
    tell(say=text)


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
