import numpy as np
import pytest

from edged.budget import LARGEST_DEFAULT, MIB, default_budget, level, machine_bytes, resident_bytes


def test_the_process_knows_its_own_memory() -> None:
    before = resident_bytes()
    held = np.ones(8 * MIB)  # written, so resident
    grown = resident_bytes() - before
    assert 60 * MIB < grown < 80 * MIB
    assert held.nbytes == 64 * MIB
    assert before < machine_bytes()


@pytest.mark.parametrize(
    ("machine", "budget"),
    [(512 * MIB, 128 * MIB), (1024 * MIB, 256 * MIB), (2048 * MIB, LARGEST_DEFAULT), (2**40, LARGEST_DEFAULT)],
)
def test_a_quarter_of_the_machine_at_most_512_mib(machine: int, budget: int) -> None:
    assert default_budget(machine) == budget


@pytest.mark.parametrize(("resident", "word"), [(0, "ok"), (90, "ok"), (91, "tight"), (100, "tight"), (101, "over")])
def test_levels(resident: int, word: str) -> None:
    assert level(resident, 100) == word
