"""Chat completions, as OpenAI, Ollama, vLLM and llama.cpp speak them: a prompt and a picture out, a text in."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from edged.model.remote.answers import decoded
from edged.model.remote.fits import misfit
from edged.model.remote.records import Answer, NoAnswer, RemotePlan, Reply, Request, Wanted, kind_of

MAX_TEXT = 4096
"""Characters of a result, as for every `output = "text"`."""


class OpenAi:
    def __init__(self, plan: RemotePlan) -> None:
        self._plan = plan
        self._schema: dict[str, Any] | None = msgspec.json.decode(plan.schema) if plan.schema else None

    def request(self, wanted: Wanted) -> Request:
        content: Any = wanted.prompt
        if wanted.picture:
            url = f"data:{kind_of(wanted.picture)};base64,{base64.b64encode(wanted.picture).decode()}"
            content = [{"type": "text", "text": wanted.prompt}, {"type": "image_url", "image_url": {"url": url}}]
        body: dict[str, Any] = {"model": self._plan.peer_name, "messages": [{"role": "user", "content": content}]}
        if self._schema is not None:
            schema = {"name": "answer", "strict": True, "schema": self._schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._plan.stream:
            body["stream"] = True
        path, _, query = self._plan.url.path.rstrip("/").partition("?")
        target = f"{path}/chat/completions" + (f"?{query}" if query else "")
        return Request("POST", target, (("Content-Type", "application/json"),), msgspec.json.encode(body))

    def question(self) -> None:
        return None

    def learn(self, reply: Reply) -> None:
        pass

    def refused(self, request: Request) -> bool:
        return False

    def read(self, reply: Reply) -> Answer:
        if "text/event-stream" in reply.headers.get("content-type", ""):
            events = Events()
            events.feed(reply.body)
            if not events.is_whole:
                raise NoAnswer("the stream ended before its [DONE]", "connection")
            return self._answer(events.text)
        found = decoded(reply.body, _Completion, "the answer is not a chat completion")
        if not found.choices or found.choices[0].message.content is None:
            raise NoAnswer("the answer has no text")
        return self._answer(found.choices[0].message.content)

    def _answer(self, text: str) -> Answer:
        if self._schema is None:
            return Answer(text=text[:MAX_TEXT])
        plain = text.strip().removeprefix("```json").removesuffix("```")
        found = decoded(plain.encode(errors="replace"), object, "the answer is not JSON, although a schema was given")
        if wrong := misfit(found, self._schema):
            raise NoAnswer(f"the answer does not fit the schema: {wrong}", "misfit")
        return Answer(text=text[:MAX_TEXT], answer=found)


class Events:
    """Server-sent events, as their bytes come: `text` is what they have said so far."""

    def __init__(self) -> None:
        self.text = ""
        self.is_whole = False
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Raises NoAnswer for what is no event of a chat completion."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        parts = []
        for line in lines:
            line = line.strip()
            if not line.startswith(b"data:") or self.is_whole:
                continue
            said = line[5:].strip()
            if said == b"[DONE]":
                self.is_whole = True
                break
            found = decoded(said, _Chunk, "the answer is not a stream of a chat completion")
            if found.error is not None:
                raise NoAnswer(f"the peer broke off: {msgspec.json.encode(found.error)[:200].decode(errors='replace')}")
            parts += [choice.delta.content or "" for choice in found.choices[:1]]
        if parts and len(self.text) < MAX_TEXT:
            self.text = (self.text + "".join(parts))[:MAX_TEXT]


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Said


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Part(msgspec.Struct):
    delta: _Said = _Said()


class _Chunk(msgspec.Struct):
    choices: list[_Part] = []
    error: Any = None
