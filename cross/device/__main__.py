"""The door: an order on standard input, or `switch` from edged-switch.service."""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from cross.device.orders import ASKED
from cross.device.switch import switched
from cross.device.words import Refused, tell


def main() -> NoReturn:
    stream = sys.stdin.buffer
    try:
        if sys.argv[-1] == "switch":
            sys.exit(switched())
        line = stream.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        request = json.loads(line)
        code = ASKED[request["ask"]](request, stream)
    except Refused as refused:
        tell(end=1, say=str(refused))
        code = 0
    except (EOFError, BrokenPipeError):  # cut off
        code = 1
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
