"""`source = "ask"` of a pipeline: short for a source of questions. Its fields are those that inputs and templates name."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from edged.config.schema import AskSource, Config, Input
from edged.errors import Problem

ASK = "ask"


PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w.-]*)\}")
"""A name in a template; one with a dot is of the results of another pipeline."""


def _named(one: Input) -> Iterator[str]:
    """The fields that an input names."""
    yield from one.fields or ()
    yield from (name for name in PLACEHOLDER.findall(one.template or "") if "." not in name)


def with_questions(config: Config) -> tuple[Config, list[Problem]]:
    """The configuration with those sources, and the pipelines that have none since nobody knows what is to be given."""
    sources, pipelines = dict(config.source), dict(config.pipeline)
    problems = []
    for name, pipeline in config.pipeline.items():
        if pipeline.source != (ASK,) or ASK in config.source:
            continue
        fields = tuple(dict.fromkeys(field for one in pipeline.inputs.values() for field in _named(one)))
        if not fields:
            text = 'source = "ask" needs the fields that are given: inputs.NAME.fields = ["a", "b"], names in a template as in '
            text += '"What is {label}?", or a [source.NAME] of '
            problems.append(Problem(f"pipeline.{name}.source", text + 'type = "ask" with fields'))
            del pipelines[name]
            continue
        source = f"{ASK}-{name}"
        sources[source] = AskSource(fields=fields)
        pipelines[name] = msgspec.structs.replace(pipeline, source=(source,))
    if sources == config.source and pipelines == config.pipeline:
        return config, problems
    return msgspec.structs.replace(config, source=sources, pipeline=pipelines), problems
