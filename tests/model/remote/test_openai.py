from __future__ import annotations

import json

import pytest

from edged.model.remote.openai import Events, OpenAi
from edged.model.remote.records import NoAnswer, RemotePlan, Reply, Wanted
from edged.notation.values import HttpUrl

URL = HttpUrl("https", "box", 443, "/v1")
SCHEMA = '{"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}'


def plan(schema: str = "", stream: bool = False) -> RemotePlan:
    return RemotePlan("m", URL, "openai", "qwen", schema=schema, stream=stream)


def completion(text: str | None) -> Reply:
    return Reply(200, {"content-type": "application/json"}, json.dumps({"choices": [{"message": {"content": text}}]}).encode())


def test_a_prompt_with_a_picture_and_a_schema() -> None:
    request = OpenAi(plan(SCHEMA)).request(Wanted({}, "How many?", b"\xff\xd8"))
    body = json.loads(request.body)
    assert (request.method, request.target, body["model"]) == ("POST", "/v1/chat/completions", "qwen")
    [message] = body["messages"]
    assert message["content"][0] == {"type": "text", "text": "How many?"}
    assert message["content"][1]["image_url"]["url"] == "data:image/jpeg;base64,/9g="
    assert body["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    assert "stream" not in body


@pytest.mark.parametrize(("text", "answer"), [('{"n": 3}', {"n": 3}), ('```json\n{"n": 3}\n```', {"n": 3})])
def test_an_object_that_fits_is_the_answer(text: str, answer: object) -> None:
    found = OpenAi(plan(SCHEMA)).read(completion(text))
    assert (found.text, found.answer) == (text, answer)


@pytest.mark.parametrize(
    ("schema", "reply", "said"),
    [
        (SCHEMA, completion("three"), "not JSON"),
        (SCHEMA, completion('{"n": "3"}'), "n: expected integer, found str"),
        ("", completion(None), "no text"),
        ("", Reply(200, {}, b"<html>"), "not a chat completion"),
        ("", Reply(200, {}, b"\xff\xfe"), "not a chat completion"),
        ("", Reply(200, {"content-type": "text/event-stream"}, b'data: {"choices": []}\n\n'), "before its"),
    ],
)
def test_what_is_no_answer_is_told_so(schema: str, reply: Reply, said: str) -> None:
    with pytest.raises(NoAnswer, match=said):
        OpenAi(plan(schema)).read(reply)


STREAM = (
    b': comment\r\n\r\ndata: {"choices":[{"delta":{"role":"assistant"}}]}\r\n\r\n'
    b'data: {"choices":[{"delta":{"content":"Gr\xc3\xbc"}}]}'
    b'\n\ndata: {"choices":[{"delta":{"content":"n"}}]}\n\ndata: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n'
)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_stream_says_the_same_however_it_is_cut(size: int) -> None:
    events = Events()
    for i in range(0, len(STREAM), size):
        events.feed(STREAM[i : i + size])
    assert (events.text, events.is_whole) == ("Grün", True)
