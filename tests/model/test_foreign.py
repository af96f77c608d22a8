"""Files that people give for models are named as what they are, with the way out."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import zipfile
from pathlib import Path

import pytest

from edged.model.foreign import foreign
from edged.model.onnx_file import read_onnx
from tests.support import models


def packed(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, b"x" * 100)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
            "Git LFS, not the file; fetch it: git lfs pull",
        ),
        (b"\n<!DOCTYPE html>\n<html lang=en>", "this is a web page, not a model"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(20), "a TensorFlow Lite model; convert it: python -m tf2onnx.convert --tflite"),
        (packed("best/data.pkl", "best/version"), "a PyTorch file (.pt); export it as ONNX"),
        (packed("metadata.json", "config.json"), "a Keras file"),
        (packed("model.onnx"), "a zip archive; unpack it and give the .onnx in it"),
        (pickle.dumps({"a": 1}), "a Python pickle"),
        (gzip.compress(b"x", mtime=0), "a gzip file; unpack it"),
        (b"\x89HDF\r\n\x1a\n", "a Keras or HDF5 file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"weight": {}   ', "a safetensors file"),
        (b"\x00\x00\x00\x00ORTM", "an .ort file"),
        (b'{"model": 1}', "a JSON file"),
        (b"", "the file is empty; copy or download it again"),
    ],
)
def test_what_it_is_and_the_way_out(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(words)):
        read_onnx(tmp_path / "m.onnx")


def test_a_model_is_none_of_these(tmp_path: Path) -> None:
    assert foreign(models.linear(tmp_path / "m.onnx").read_bytes()) == ""
