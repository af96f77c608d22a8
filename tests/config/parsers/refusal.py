"""What the tests of the parsers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edged.config.parsers.value import Surroundings

AROUND = Surroundings(Path("/etc/edged"), {})


def refusal(parse: Any, raw: Any) -> str:
    with pytest.raises(ValueError, match="expected") as caught:
        parse(raw, AROUND)
    return str(caught.value)
