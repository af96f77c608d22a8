"""Remote models in the plan: what goes out of a row, what is refused and with which words, what `edged check` prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.plan.report import plan_text
from tests.support import models
from tests.support.planning import MAIN, planned

SOURCE = (
    MAIN
    + """
[source.pumps]
type = "mqtt"
topic = "plant/{pump}"
max_keys = 9
decode = { format = "json", fields = ["temp", "p"] }
"""
)
CAMERA = (
    MAIN
    + """
[source.gate]
type = "mqtt"
topic = "cam/{camera}"
decode = { format = "image" }
"""
)
OPENAI = """
[model.large]
url = "https://gpu-box:4000/v1"
protocol = "openai"
name = "qwen"
"""
WORDS = """
[pipeline.words]
source = "pumps"
model = "large"
inputs = { prompt = { template = "Pump {pump}: {temp}" } }
"""


def test_what_a_prompt_needs(tmp_path: Path) -> None:
    plan = planned(tmp_path, SOURCE + OPENAI + WORDS).whole
    words = plan.pipelines["words"]
    assert words.ask is not None
    assert (words.ask.names, words.output.type, words.overflow, words.model) == (("pump", "temp"), "text", "drop_oldest", None)
    assert [f.name for f in words.output.result_fields()] == ["text", "by"]
    assert any(line.what == "model.large: requests" for line in plan.memory)
    text = plan_text(plan)
    assert "model.large: https://gpu-box:4000/v1 by openai gets a prompt" in text
    assert "a crash loses what waits there" in text


def test_pictures_that_leave_the_device_are_named(tmp_path: Path) -> None:
    text = CAMERA + OPENAI + WORDS.replace("pumps", "gate").replace("Pump {pump}: {temp}", "Look at {camera}")
    text += 'preprocess = { step = "resize", size = [64, 48] }\n'
    found = planned(tmp_path, text)
    plan = found.whole
    assert plan.pipelines["words"].ask is not None
    [picture] = plan.pipelines["words"].ask.inputs
    assert picture.shape == (48, 64, 3)
    said = [p.text for p in found.problems if "leave" in p.text]
    assert said == ["the pictures of source.gate leave this device, for https://gpu-box:4000/v1"]


def test_a_fallback_fills_from_the_same_rows_and_gives_the_same_results(tmp_path: Path) -> None:
    models.linear(tmp_path / "near.onnx")
    text = (
        SOURCE.replace('["temp", "p"]', '["a", "b", "c"]')
        + """
[model.far]
url = "http://box:8000/v2/models/m"
protocol = "kserve"
fallback = "near"
[model.near]
path = "near.onnx"
[pipeline.far]
source = "pumps"
model = "far"
output = { type = "regress", fields = ["x", "y"] }
"""
    )
    plan = planned(tmp_path, text).whole
    far = plan.pipelines["far"]
    assert far.ask is not None
    assert far.model == "near"
    assert [i.name for i in far.slot_inputs] == ["x", "remote: input"]
    assert far.ask.outputs == (("y", (2,)),)
    assert plan.remotes["far"].fallback == "near"
    assert [f.name for f in far.output.result_fields()] == ["values", "values.x", "values.y", "by"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name =", "threads = 2\nname =", "model.large.threads: has no effect with url: the model runs elsewhere"),
        ("name =", 'path = "m.onnx"\nname =', "model.large.path: has no effect with url: the model runs elsewhere; remove one"),
        ("name =", "watch = false\nname =", "model.large.watch: has no effect with url"),
        ('name = "qwen"\n', "", "model.large.name: required for openai: what the peer calls the model"),
        ('protocol = "openai"\n', "", 'model.large.protocol: required with url: one of "kserve" "http" "openai"'),
        ('"openai"', '"kserve"', "model.large.name: has no effect with kserve; it belongs to openai"),
        ("name =", 'stream = true\nschema = "s.json"\nname =', "model.large.stream: has no effect with schema"),
        ('name = "qwen"', 'token = "x"\nname = "qwen"', ""),
        ("https://", "http://me:sesame@", "a password in the address ends up in logs; use token"),
        ("https://", "ftp://", "model.large.url: expected an address such as https://gpu-box"),
        ("name =", 'fallback = "large"\nname =', "model.large.fallback: large falls back to itself"),
        ("name =", 'fallback = "lrge"\nname =', 'model.large.fallback: expected the name of a model, found "lrge"'),
        (
            "name =",
            'limit = "6"\nname =',
            'model.large.limit: expected a rate: a number per second, or such as "6/min", "4/h", found "6"; without quotes: 6',
        ),
        ("{temp}", "{tmp}", "pipeline.words.inputs.prompt.template: {tmp} is neither a capture nor a field here"),
        ("{temp}", "{look.count}", "{look.count} is neither a capture nor a field here"),
        ('source = "pumps"\nmodel', 'source = "pumps"\noverflow = "block"\nmodel', 'pipeline.words.overflow: "block" would make'),
        ('source = "pumps"\nmodel', 'source = "pumps"\noutput = "classify"\nmodel', "pipeline.words.output"),
        ("inputs = ", "#", "pipeline.words.inputs: model.large needs a prompt"),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "s.json").write_text('{"type": "object"}')
    text = SOURCE + OPENAI + WORDS
    assert old in text
    found = planned(tmp_path, text.replace(old, new, 1))
    if said:
        assert any(said in line for line in found.lines), found.lines
    else:
        found.whole  # noqa: B018
    assert not any("sesame" in line for line in found.lines)


def test_two_remote_models_do_not_fall_back_to_each_other(tmp_path: Path) -> None:
    both = OPENAI + 'fallback = "other"\n' + OPENAI.replace("model.large", "model.other") + 'fallback = "large"\n'
    found = planned(tmp_path, SOURCE + both + WORDS)
    said = "model.large.fallback: large falls back to other and other to large; one of them must be local"
    assert any(said in line for line in found.lines), found.lines


def test_a_local_model_has_no_keys_of_a_remote_one(tmp_path: Path) -> None:
    models.linear(tmp_path / "near.onnx")
    text = SOURCE + '[model.near]\npath = "near.onnx"\ntimeout = "3s"\n[pipeline.p]\nsource = "pumps"\nmodel = "near"\n'
    assert any("model.near.timeout: has no effect without url" in line for line in planned(tmp_path, text).lines)
    text = text.replace('path = "near.onnx"\ntimeout = "3s"\n', "")
    assert any("model.near.path: required: a folder with model.onnx" in line for line in planned(tmp_path, text).lines)


DESCRIBE = """
[pipeline.describe]
source = "ask"
model = "large"
inputs.prompt.template = "{label} with {score:g}, {score}: why?"
"""


def test_a_question_may_have_what_its_template_names(tmp_path: Path) -> None:
    plan = planned(tmp_path, MAIN + OPENAI + DESCRIBE).whole
    p = plan.pipelines["describe"]
    assert p.ask is not None
    assert [f.name for f in p.fields] == ["label", "score"]
    assert (p.ask.free, p.ask.photo) == (("label", "score"), "")
    [slots] = [line for line in plan.memory if line.what == "pipeline.describe: slots"]
    assert slots.bytes > p.slots * 16 * 1024
    assert "texts and pictures of questions, up to 16 KiB each" in slots.how


def test_a_question_may_have_a_picture_which_check_names(tmp_path: Path) -> None:
    found = planned(tmp_path, MAIN + OPENAI + DESCRIBE + 'inputs.image.fields = ["photo"]\n')
    p = found.whole.pipelines["describe"]
    assert p.ask is not None
    assert (p.ask.free, p.ask.photo) == (("label", "score"), "photo")
    assert [one.text for one in found.problems if "leave" in one.text] == [
        "pictures that behaviours give (`photo`) leave this device, for https://gpu-box:4000/v1"
    ]


def test_where_a_model_here_answers_too_a_question_has_numbers(tmp_path: Path) -> None:
    models.linear(tmp_path / "near.onnx", width=2)
    http = '[model.large]\nurl = "http://box/x"\nprotocol = "http"\n'
    ask = '[source.q]\ntype = "ask"\nfields = ["a", "b"]\n[pipeline.describe]\nsource = "q"\nmodel = "large"\n'
    for more, free in (("", ("a", "b")), ('fallback = "near"\n[model.near]\npath = "near.onnx"\n', ()), ('body = "raw"\n', ())):
        p = planned(tmp_path, MAIN + http + more + ask).whole.pipelines["describe"]
        assert p.ask is not None
        assert p.ask.free == free


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('inputs.image.fields = ["a", "b"]\n', "pipeline.describe.inputs.image.fields: expected one field, which is the picture"),
        (
            'inputs.other.fields = ["a"]\n',
            "pipeline.describe.inputs.other: has no effect: model.large takes a prompt and an image",
        ),
    ],
)
def test_what_a_question_cannot_have(tmp_path: Path, more: str, said: str) -> None:
    found = planned(tmp_path, MAIN + OPENAI + DESCRIBE + more)
    assert any(said in line for line in found.lines), found.lines


def test_a_picture_of_a_source_is_not_named_among_the_inputs(tmp_path: Path) -> None:
    found = planned(tmp_path, SOURCE + OPENAI + WORDS.replace("} }", '}, image = { fields = ["temp"] } }'))
    text = "pipeline.words.inputs.image: has no effect: only the picture of a question has a name"
    assert any(text in line for line in found.lines), found.lines


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ('{"type": "object", "properties": []}', "properties: found an empty list"),
        ('{"type": "object", "required": "a"}', 'required: found "a"'),
        ('{"type": "object", "properties": {"a": {"minimum": "1"}}}', 'properties.a.minimum: found "1"'),
        ('{"type": "object", "properties": {"a": {"items": {"enum": 1}}}}', "properties.a.items.enum: found the number 1"),
        ('{"type": "object", "properties": {"a": "string"}}', "properties.a: expected an object, found"),
    ],
)
def test_a_schema_that_cannot_be_judged_by_is_refused(tmp_path: Path, schema: str, said: str) -> None:
    (tmp_path / "s.json").write_text(schema)
    found = planned(tmp_path, SOURCE + OPENAI.replace("name =", 'schema = "s.json"\nname =') + WORDS)
    assert any(f"s.json is no JSON schema: {said}" in line for line in found.lines), found.lines


FAR = """
[model.far]
url = "http://box:8000/v2/models/m"
protocol = "kserve"
"""
LOOK = """
[pipeline.look]
source = "gate"
preprocess = { step = "resize", size = [64, 64] }
model = "far"
output = "detect"
"""


@pytest.mark.parametrize(("shape", "known"), [([300, 6], (300, 6)), ([-1, 6], None)])
def test_a_shape_is_enough_for_what_finds_things_in_pictures(
    tmp_path: Path, shape: list[int], known: tuple[int, ...] | None
) -> None:
    text = CAMERA + FAR + f"[model.far.outputs.boxes]\nshape = {shape}\n" + LOOK
    plan = planned(tmp_path, text.replace('"detect"', '{ type = "detect", head = "end-to-end" }')).whole
    look = plan.pipelines["look"]
    assert look.ask is not None
    assert look.ask.outputs == (("boxes", known),)
    assert plan.remotes["far"].outputs == (("boxes", ("boxes",)),)
    found = np.zeros((1, 2 if known is None else 300, 6), np.float32)
    found[0, 0] = (8, 16, 24, 48, 0.75, 3)
    [body] = look.output.make_head().results({"boxes": found, "by": np.array(["far"], object)}, {}, [0])
    assert body is not None
    assert (body["count"], body["by"], body["detections"][0]["score"]) == (1, "far", 0.75)


def test_without_a_shape_it_is_said_what_to_do(tmp_path: Path) -> None:
    for more in ("", 'labels = ["a", "b"]\n'):
        found = planned(tmp_path, CAMERA + FAR + more + LOOK)
        said = "pipeline.look.output: model.far runs elsewhere, and nothing says what its output output looks like: "
        said += "[model.far.outputs.output] shape = [...], of one row; or name a fallback"
        assert any(said in line for line in found.lines), found.lines


def test_outputs_are_found_where_their_path_says_and_may_be_read_by_others(tmp_path: Path) -> None:
    text = SOURCE + FAR.replace("kserve", "http") + '[model.far.outputs]\nscore = { path = "result.0.p", shape = [2] }\n'
    text += '[pipeline.first]\nsource = "pumps"\nmodel = "far"\n[pipeline.second]\nsource = "first"\n'
    plan = planned(tmp_path, text).whole
    assert plan.remotes["far"].outputs == (("score", ("result", 0, "p")),)
    assert [f.shape for f in plan.pipelines["second"].fields] == [(2,)]
