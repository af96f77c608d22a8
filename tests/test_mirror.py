"""The tests mirror edged/: each module has a file of tests at the same place, or is named here with the place of its tests."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "align/plan.py": "tests/align/test_aligner.py",
}


def test_each_module_has_its_tests() -> None:
    missing = []
    for module in sorted((ROOT / "edged").rglob("*.py")):
        place = module.relative_to(ROOT / "edged")
        if module.name == "__init__.py" or place.as_posix() in ELSEWHERE:
            continue
        tests = ROOT / "tests" / place.parent / f"test_{place.name.strip('_')}"
        if not tests.exists():
            missing.append(f"{place}: expected {tests.relative_to(ROOT)}, or an entry in ELSEWHERE")
    assert not missing, "\n".join(missing)


def test_the_list_is_true() -> None:
    for module, tests in ELSEWHERE.items():
        assert (ROOT / "edged" / module).exists(), f"{module} is gone: take it out of ELSEWHERE"
        assert (ROOT / tests).exists(), f"{module}: {tests} is not there"
