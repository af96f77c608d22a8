"""Listens in on a pipeline that is wired already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from edged.pipeline.pipeline import Pipeline


def follow(pipeline: Pipeline, take: Callable[..., Any]) -> None:
    """`take` gets the blocks of its results, too."""
    pipeline.connect(replace(pipeline.wiring, followers=(*pipeline.wiring.followers, take)))


def tell(pipeline: Pipeline, hear: Callable[..., Any]) -> None:
    """`hear` gets its results, too."""
    pipeline.connect(replace(pipeline.wiring, tellers=(*pipeline.wiring.tellers, hear)))
