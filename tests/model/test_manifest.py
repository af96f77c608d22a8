from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edged.errors import Problem
from edged.model.manifest import HIDDEN, InputHints, Manifest, Normalize, hash_file, read_manifest
from edged.model.metadata import metadata_labels
from tests.support import models

WHOLE = """
name = "pump"
version = "3"
description = "a test"
labels = ["good", "bad"]
batch_axis = 0
golden = "golden.npz"
[normalize]
mean = [1, 2.5, 0]
std = 2
[inputs.x]
fields = ["a", "b", "c"]
units = { a = "g" }
layout = "time,field"
shape = [3]
"""


def read(folder: Path, toml: str) -> tuple[Manifest | None, list[Problem]]:
    models.linear(folder / "model.onnx")
    np.savez(folder / "golden.npz", x=np.zeros((2, 3), np.float32), y=np.zeros((2, 2), np.float32))
    (folder / "model.toml").write_text(toml)
    return read_manifest("m", folder)


def test_a_folder(tmp_path: Path) -> None:
    manifest, problems = read(tmp_path, WHOLE)
    assert not problems
    assert manifest is not None
    assert (manifest.version, manifest.labels, manifest.batch_axis) == ("3", ("good", "bad"), 0)
    assert manifest.sha256 == hash_file(tmp_path / "model.onnx")
    assert manifest.normalize == Normalize((1.0, 2.5, 0.0), (2.0, 2.0, 2.0))
    assert manifest.inputs == {"x": InputHints(("a", "b", "c"), {"a": "g"}, "time,field", (3,))}
    assert manifest.golden is not None
    assert manifest.golden.read().keys() == {"x", "y"}


def test_a_folder_without_toml_and_a_bare_file(tmp_path: Path) -> None:
    models.linear(tmp_path / "model.onnx", metadata={"names": "{1: 'bad', 0: 'good'}"})
    for path in (tmp_path, tmp_path / "model.onnx"):
        manifest, problems = read_manifest("m", path)
        assert not problems
        assert manifest is not None
        assert (manifest.path, manifest.labels) == (tmp_path / "model.onnx", ("good", "bad"))


def test_the_hash_must_be_right(tmp_path: Path) -> None:
    models.linear(tmp_path / "model.onnx")
    right = hash_file(tmp_path / "model.onnx")
    assert read(tmp_path, f'sha256 = "{right.upper()}"')[1] == []
    manifest, problems = read(tmp_path, f'sha256 = "{"0" * 64}"')
    assert manifest is None
    assert "do not belong together" in problems[0].text


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("colour = 1", "model.toml: colour: unknown key; known: name, version"),
        ("version = 3", "model.toml: version: expected a string, found 3"),
        ('labels = ["a", 1]', "labels: expected a list of strings"),
        ("batch_axis = -1", 'batch_axis: expected 0 (rows first), 1, 2 or "none", found -1'),
        ("[inputs.z]", "inputs.z: the model has no such input; it has x"),
        ("[inputs]\nx = 1", "inputs.x: expected a table, found 1"),
        ('[inputs.x]\nlayout = "NCHW"', 'inputs.x.layout: expected "time,field" or "field,time" or "hwc" or "chw"'),
        ('[inputs.x]\ncolor = "yuv"', 'inputs.x.color: expected "rgb" or "bgr" or "gray"'),
        ('[detect]\nhead = "rcnn"', 'detect.head: expected "yolov5" or "yolov8" or "yolox" or "end-to-end"'),
        ("[detect]\nanchors = 3", "detect.anchors: unknown key; known: head"),
        ("[inputs.x]\nshape = [0]", "inputs.x.shape: expected a list of whole numbers"),
        ('[inputs.x]\nfields = ["a"]\nunits = { b = "g" }', "inputs.x.units: b is not among its fields: a"),
        ("[normalize]\nmean = 1", "normalize: expected mean and std, or min and max; found mean"),
        ("[normalize]\nmean = 1\nstd = 0", "normalize: std must be above 0"),
        ("[normalize]\nmin = [1, 2]\nmax = [2, 3, 4]", "normalize: its lists must be of one length"),
        ('[normalize]\nmean = "a"\nstd = 1', "normalize.mean: expected a number"),
        ('[state]\ny = "h"', 'state: the model has no input "h"; it has x'),
        ("[starts.x]\na = [1]", "starts.x: no state is the input x; there are: none"),
        ("[inputs.x.seen]\nmean = [1, 2]\nstd = [1]", "inputs.x.seen: expected mean and std, equally many numbers"),
        ("[inputs.x.seen]\nmedian = 1", "inputs.x.seen.median: unknown key"),
        ("made = 3", "made: expected a table, found 3"),
        ('state = "y"', "state: expected inputs by output, such as h_out = \"h\", found 'y'"),
        ('golden = "../golden.npz"', "golden.file: expected the name of an .npz file"),
        ('golden = "none.npz"', "golden: none.npz: "),
        ('golden = "model.onnx"', "golden: model.onnx: no .npz file"),
        ('[golden]\nfile = "golden.npz"\nrtol = -1', "golden.rtol: expected a number of at least 0"),
        ("= 3", "TOML: "),
    ],
)
def test_what_is_wrong_in_the_toml(tmp_path: Path, toml: str, text: str) -> None:
    manifest, problems = read(tmp_path, toml)
    assert manifest is None
    assert [p.path for p in problems] == ["model.m.path"]
    assert text in problems[0].text


def test_all_that_is_wrong_comes_at_once(tmp_path: Path) -> None:
    assert len(read(tmp_path, 'colour = 1\nversion = 1\nlabels = 2\nsha256 = "00"')[1]) == 4


def test_golden_arrays_must_be_the_models(tmp_path: Path) -> None:
    models.linear(tmp_path / "model.onnx")
    (tmp_path / "model.toml").write_text('golden = "g.npz"')
    np.savez(tmp_path / "g.npz", x=np.zeros((1, 3)), other=np.zeros((1, 2)))
    assert "expected arrays for all inputs (x) and some outputs (y); found other, x" in read_manifest("m", tmp_path)[1][0].text
    np.savez(tmp_path / "g.npz", x=np.zeros((1, 3)), y=np.zeros((2, 2)))
    assert "the same number of samples" in read_manifest("m", tmp_path)[1][0].text
    np.savez(tmp_path / "g.npz", x=np.array([{}]), y=np.zeros((1, 2)))  # pickles are not read
    assert "allow_pickle" in read_manifest("m", tmp_path)[1][0].text


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert "is not there; expected a folder" in read_manifest("m", tmp_path / "none")[1][0].text
    models.linear(tmp_path / "pump.onnx")
    assert "is not there; there is pump.onnx" in read_manifest("m", tmp_path)[1][0].text


def test_a_broken_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    manifest, problems = read_manifest("m", tmp_path)
    assert manifest is None
    assert "model.onnx: not an ONNX model, or a damaged one" in problems[0].text


def test_labels_in_metadata() -> None:
    assert metadata_labels({"labels": '["a", "b"]'}) == ("a", "b")
    assert metadata_labels({"labels": '{"1": "b", "0": "a"}'}) == ("a", "b")
    assert metadata_labels({"labels": "a, b"}) == ("a", "b")
    assert metadata_labels({"names": "['a', 'b']"}) == ("a", "b")
    assert metadata_labels({}) == ()
    for bad in ("{0: 'a', 2: 'b'}", "__import__('os')", "(" * 5000):
        with pytest.raises((ValueError, SyntaxError, RecursionError, MemoryError)):
            metadata_labels({"names": bad})


def test_unreadable_labels_are_a_warning(tmp_path: Path) -> None:
    models.linear(tmp_path / "model.onnx", metadata={"names": "{0: 'a', 5: 'b'}"})
    manifest, problems = read_manifest("m", tmp_path)
    assert manifest is not None
    assert [p.is_warning for p in problems] == [True]


@pytest.mark.parametrize(
    "secret",
    [
        'password = "hunter2"',
        "root:hunter2:19000:0:99999:7:::",
        "hunter2",
        'version = "hunter2',
        'labels = "hunter2"',
        "\xff\xfe",
    ],
)
@pytest.mark.parametrize("is_hard", [False, True])
def test_a_link_to_a_file_elsewhere_shows_none_of_its_words(tmp_path: Path, secret: str, is_hard: bool) -> None:
    models.linear(tmp_path / "m" / "model.onnx", metadata={"labels": "[1"})  # a warning comes with it
    other = tmp_path / "other"
    other.write_bytes(secret.encode("latin-1"))
    (os.link if is_hard else os.symlink)(other, tmp_path / "m" / "model.toml")
    manifest, problems = read_manifest("m", tmp_path / "m")
    assert manifest is None
    errors = [p.text for p in problems if not p.is_warning]
    assert errors == [f"{tmp_path / 'm' / 'model.toml'}: {HIDDEN}"]


def test_a_link_within_the_folder_is_as_good_as_the_file(tmp_path: Path) -> None:
    """As a ConfigMap of Kubernetes looks."""
    models.linear(tmp_path / "model.onnx")
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "model.toml").write_text('version = "3"')
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "model.toml").symlink_to("..data/model.toml")
    assert read_manifest("m", tmp_path)[1] == []
    (tmp_path / "..2026" / "model.toml").write_text("version = 3")
    assert "version: expected a string, found 3" in read_manifest("m", tmp_path)[1][0].text


def test_what_a_model_was_made_of_and_what_its_states_begin_with(tmp_path: Path) -> None:
    models.total(tmp_path / "model.onnx")
    state = '[state]\nsum_out = "sum"\n[starts.sum]\n"a/b" = 3\nc = [4]\n'
    (tmp_path / "model.toml").write_text(state + '[inputs.x.seen]\nmean = 1\nstd = [2]\n[made]\nby = "me"\n')
    manifest, problems = read_manifest("m", tmp_path)
    assert not problems
    assert manifest is not None
    assert manifest.states[0].starts == (("a/b", (3.0,)), ("c", (4.0,)))
    assert manifest.inputs["x"].seen == ((1.0,), (2.0,))
    (tmp_path / "model.toml").write_text(state.replace("[4]", "[4, 5]"))
    _, [problem] = read_manifest("m", tmp_path)
    assert "starts.sum: expected 1 numbers for each key, as sum has" in problem.text
