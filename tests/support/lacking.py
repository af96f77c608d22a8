"""A test that lacks what it needs is skipped with the way to get it; where CI is set it fails: nothing is skipped there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(what: str, remedy: str = "") -> NoReturn:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed: {remedy or f'apt-get install {what}'}")
