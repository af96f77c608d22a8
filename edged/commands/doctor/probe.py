"""Asks onnxruntime what it is, in a process of its own: one that was built for another processor or CUDA may crash on import.

A line of JSON on standard output. Started by `commands/doctor/gather.py` only.
"""

from __future__ import annotations

import json
import sys

from edged.system import process


def main() -> None:
    process.set_up()
    try:
        from edged.model import onnx
    except Exception as error:  # whatever a library says that does not fit this machine
        said: dict[str, object] = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
    else:
        faults = {rung: onnx.linker_error(rung) for rung in onnx.available() if rung != "cpu"}
        # An undefined symbol is one that onnxruntime brings itself, when it is the one that loads the library.
        broken = {rung: text for rung, text in faults.items() if text and "undefined symbol" not in text}
        said = {"version": onnx.version(), "providers": onnx.available(), "broken": broken}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
