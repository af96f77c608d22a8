from __future__ import annotations

import re
from pathlib import Path

import onnxruntime
import pytest

from edged.config.provider_options import KNOWN, OWN

LIBRARIES = Path(onnxruntime.__file__).parent / "capi"


def test_what_may_be_set_is_set_by_nobody_else() -> None:
    assert not OWN.keys() & {name for names in KNOWN.values() for name in names}
    assert all(names == tuple(dict.fromkeys(names)) for names in KNOWN.values())


@pytest.mark.parametrize("provider", KNOWN)
def test_the_table_is_that_of_the_library(provider: str) -> None:
    library = LIBRARIES / f"libonnxruntime_providers_{provider}.so"
    if not library.exists():
        pytest.skip("this onnxruntime is built for the CPU alone")
    names = set(re.findall(rb"(?<=\0)[a-z][a-z0-9_]{5,60}(?=\0)", library.read_bytes()))
    assert not {name for name in KNOWN[provider] if name.encode() not in names}
    if provider == "tensorrt":
        assert {name.decode() for name in names if name.startswith(b"trt_")} <= {*KNOWN[provider], *OWN}
