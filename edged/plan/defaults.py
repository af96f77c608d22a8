"""What a model's own metadata say where the configuration says nothing: the type of its output, the size of its pictures."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from edged.config.schema import UNSAID, Config, Output, Pipeline, Step
from edged.decode.formats import FORMATS
from edged.model.manifest import Manifest
from edged.model.metadata import output_type, picture_size


def with_defaults(config: Config, manifests: Mapping[str, Manifest]) -> Config:
    """The configuration with what the metadata of its models say in the place of what it leaves out."""
    pipelines = {name: _filled(p, config, manifests.get(p.model or "")) for name, p in config.pipeline.items()}
    return config if pipelines == config.pipeline else replace(config, pipeline=pipelines)


def _filled(pipeline: Pipeline, config: Config, manifest: Manifest | None) -> Pipeline:
    if manifest is None:
        return pipeline
    metadata = manifest.onnx.metadata
    kind = output_type(metadata)
    if pipeline.output is UNSAID and kind is not None and not pipeline.postprocess:
        pipeline = replace(pipeline, output=Output(type=kind))
    size = picture_size(metadata)
    if pipeline.preprocess is None and size is not None and _has_pictures(pipeline, config):
        step = Step(step="resize", size=size, fit="crop" if kind == "classify" else "letterbox")
        pipeline = replace(pipeline, preprocess=(step,))
    return pipeline


def _has_pictures(pipeline: Pipeline, config: Config) -> bool:
    decodes = [config.source[name].decode for name in pipeline.source if name in config.source]
    return any(d is not None and FORMATS[d.format].is_of_pictures for d in decodes)
