"""Files that are given for ONNX models and are something else: what they are, and the way out."""

from __future__ import annotations

import struct

HEAD = 4096
"""Bytes that tell."""
EXPORT = 'export it as ONNX (PyTorch: torch.onnx.export(model, example, "model.onnx"); Ultralytics: yolo export format=onnx)'
MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "this is the pointer of a file in Git LFS, not the file; fetch it: git lfs pull"),
    (b"\x89HDF", "this is a Keras or HDF5 file; convert it: python -m tf2onnx.convert --keras model.h5 --output model.onnx"),
    (b"GGUF", "this is a GGUF file of a language model, which llama.cpp runs; ONNX Runtime does not"),
    (b"\x1f\x8b", "this is a gzip file; unpack it: gunzip, or tar xzf"),
    (b"BZh", "this is a bzip2 file; unpack it"),
    (b"\xfd7zXZ", "this is an xz file; unpack it"),
    (b"Rar!", "this is a rar archive; unpack it"),
    (b"7z\xbc\xaf", "this is a 7z archive; unpack it"),
    (b"%PDF", "this is a PDF"),
    (b"\x89PNG", "this is a picture (PNG)"),
    (b"\xff\xd8\xff", "this is a picture (JPEG)"),
    (b"\x7fELF", "this is a program or a library"),
    (b"ftrt", "this is a TensorRT engine, which runs on one kind of GPU only; give the ONNX file that it was built from"),
)


def foreign(head: bytes) -> str:
    """What a file is that begins with `head`, if that is known to be no ONNX model; else empty."""
    for magic, words in MAGIC:
        if head.startswith(magic):
            return words
    if head[4:8] == b"ORTM":
        return "this is an .ort file; edged loads .onnx"
    if head[4:8] == b"TFL3":
        return "this is a TensorFlow Lite model; convert it: python -m tf2onnx.convert --tflite model.tflite --output model.onnx"
    if head.startswith(b"PK\x03\x04"):
        return _zip(head)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"this is a Python pickle; {EXPORT}; scikit-learn: skl2onnx.to_onnx(model, x)"
    if _is_safetensors(head):
        return f"this is a safetensors file: weights without a graph; {EXPORT}; Hugging Face: optimum-cli export onnx"
    return _text(head)


def _zip(head: bytes) -> str:
    if b"data.pkl" in head or b"/version" in head or b".data/" in head or b"constants.pkl" in head:
        return f"this is a PyTorch file (.pt); {EXPORT}"
    if b"config.json" in head or b"metadata.json" in head:
        return "this is a Keras file; convert it: python -m tf2onnx.convert --keras model.keras --output model.onnx"
    return f"this is a zip archive; unpack it and give the .onnx in it; if it is a PyTorch file, {EXPORT}"


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 10 and head[8:10] == b'{"' and struct.unpack("<Q", head[:8])[0] < 100 << 20


def _text(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "this is a web page, not a model: download it again, from GitHub by Raw, from Hugging Face by /resolve/, logged in"
    if start.startswith((b"<?xml", b"<net")):
        return "this is an XML file (OpenVINO's, it seems); give the ONNX file that it was made from"
    if start.startswith((b"{", b"[")):
        return "this is a JSON file"
    return ""
