"""What exporters write beside the graph."""

from __future__ import annotations

import pytest

from edged.model.metadata import characters, decoder, metadata_labels, output_type, picture_size, stride

YOLO = {"author": "Ultralytics", "task": "pose", "imgsz": "[480, 640]", "stride": "32", "names": "{0: 'person'}"}


def test_ultralytics() -> None:
    assert (output_type(YOLO), picture_size(YOLO), stride(YOLO), metadata_labels(YOLO)) == ("detect", (640, 480), 32, ("person",))
    assert output_type({"task": "detect"}) is None
    assert (picture_size({}), stride({}), stride({"stride": "x"})) == (None, 1, 1)


@pytest.mark.parametrize(
    ("text", "size"), [("320", (320, 320)), ("[320]", (320, 320)), ("(1, 2)", (2, 1)), ("-1", None), ("[", None)]
)
def test_sizes(text: str, size: tuple[int, int] | None) -> None:
    assert picture_size({"imgsz": text}) == size


@pytest.mark.parametrize(
    "metadata",
    [
        {"classes": '["a", "b"]'},
        {"class_names": "a\nb\n"},
        {"id2label": '{"0": "a", "1": "b"}'},
        {"id2label": "{1: 'b', 0: 'a'}"},
        {"labels": "a, b"},
    ],
)
def test_labels_of_others(metadata: dict[str, str]) -> None:
    assert metadata_labels(metadata) == ("a", "b")


def test_characters() -> None:
    assert characters({"character": "'\nä\n \n"}) == ("'", "ä", " ")


def test_decoders_that_look_like_others() -> None:
    newer = {"author": "Ultralytics", "head": "RTDETRDecoder", "description": "Ultralytics rtdetr-l model"}
    assert decoder(newer) == "queries"
    assert decoder({"author": "Ultralytics", "description": "Ultralytics RT-DETR-l model trained on coco.yaml"}) == "scores"
    assert decoder({"author": "Ultralytics", "description": "Ultralytics YOLO26n model", "head": "Detect"}) == ""
