"""Models that many have and that give wrong numbers in silence when they are used as their files read."""

from __future__ import annotations

from edged.model.axes import as_filed
from edged.model.manifest import Manifest

SILERO_CONTEXT = {512: 64, 256: 32}
"""Samples that silero-vad (from version 5 on) wants of the chunk before, by the size of its chunks at 16 and at 8 kHz."""


def lacks_context(manifest: Manifest, size: int) -> str:
    """What is wrong with a window of so many samples; empty if nothing is."""
    context = SILERO_CONTEXT.get(size)
    if context is None or not _is_silero(manifest):
        return ""
    text = f"this is silero-vad, which takes the last {context} samples of the chunk before in front of its {size}; without them "
    return text + f"its answers are wrong: window = {{ size = {size + context}, hop = {size} }}"


def _is_silero(manifest: Manifest) -> bool:
    inputs = {i.name: as_filed(i).shape or () for i in manifest.onnx.inputs}
    outputs = {o.name for o in manifest.onnx.outputs}
    state = inputs.get("state", ())
    return (
        inputs.keys() <= {"input", "state", "sr"}
        and outputs == {"output", "stateN"}
        and state[:1] == (2,)
        and state[-1:] == (128,)
    )
