from __future__ import annotations

from typing import Any

import pytest

from edged.config.parsers.choices import boolean, choice, dtype, option, providers
from tests.config.parsers.refusal import AROUND, refusal


def test_one_of_a_few() -> None:
    assert choice("5", ("5", "3.1.1")) == "5"
    assert choice(8, (7, 8)) == 8
    with pytest.raises(ValueError, match=r'^expected one of "even" "odd", found "evne"; did you mean "even"\?$'):
        choice("evne", ("even", "odd"))
    with pytest.raises(ValueError, match=r'^expected one of 7 8, found "8"; did you mean 8\?$'):
        choice("8", (7, 8))


def test_yes_or_no() -> None:
    assert boolean(True, AROUND) is True
    assert refusal(boolean, "True") == 'expected true or false, found "True"; without quotes: true'
    assert refusal(boolean, 1) == "expected true or false, found the number 1"


@pytest.mark.parametrize(
    ("raw", "meant"), [("float", "float32"), ("u16", "uint16"), ("Double", "float64"), ("flaot32", "float32")]
)
def test_element_types(raw: str, meant: str) -> None:
    assert dtype(meant, AROUND) == meant
    assert refusal(dtype, raw).endswith(f'found "{raw}"; did you mean "{meant}"?')


def test_providers() -> None:
    assert providers("auto", AROUND) is None
    assert providers(["cuda", "cpu"], AROUND) == ("cuda", "cpu")
    assert refusal(providers, "cuda").endswith('found "cuda"; as a list: ["cuda"]')
    assert refusal(providers, ["TRT"]).endswith('did you mean "tensorrt"?')
    assert refusal(providers, ["cpu", "cpu"]) == 'expected each provider once, found "cpu" 2 times'


def test_options_of_a_library() -> None:
    raw: Any
    for raw in (True, 5, 0.5, "HEURISTIC"):
        assert option(raw, AROUND) == raw
    for raw in ([], {}, float("nan"), None):
        refusal(option, raw)
