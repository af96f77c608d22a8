"""Checks of models, and of what goes into them."""

from __future__ import annotations

import importlib.util
from collections import Counter

from edged.config.checks.http import is_loopback
from edged.config.convert import Raw, Rule, Wrong
from edged.config.provider_options import KNOWN, OWN
from edged.config.schema import (
    Batch,
    Input,
    Model,
    ProviderOptions,
    Step,
    Table,
)
from edged.notation.words import did_you_mean


def provider_options(table: ProviderOptions, raw: Raw) -> Wrong:
    for provider, known in KNOWN.items():
        for name in getattr(table, provider) or ():
            if name in OWN:
                yield f"{provider}.{name}", f"cannot be set here: {OWN[name]}", "key"
            elif name not in known:
                others = [other for other, names in KNOWN.items() if name in names]
                fix = f'; it belongs to "{others[0]}"' if others else did_you_mean(name, known)
                yield f"{provider}.{name}", f"ONNX Runtime has no such option for {provider}{fix}", "key"


def options_of_others(table: Model, raw: Raw) -> Wrong:
    """TensorRT leaves to CUDA what it cannot do itself; all else that is not tried has no options either."""
    if table.providers is None or table.provider_options is None:
        return
    for provider in KNOWN.keys() - {"cuda"}:
        if provider not in table.providers and getattr(table.provider_options, provider) is not None:
            yield f"provider_options.{provider}", f"has no effect, since providers does not name {provider}", "key"
    if not {"tensorrt", "cuda"} & set(table.providers) and table.provider_options.cuda is not None:
        yield "provider_options.cuda", "has no effect, since providers names no GPU", "key"


OF_REMOTE = (
    *("protocol", "name", "token", "headers", "ca", "body", "outputs", "schema", "stream", "concurrency", "timeout", "retries"),
    *("cooldown", "limit", "fallback", "max_bytes"),
)
OF_LOCAL = ("state", "providers", "provider_options", "threads", "batch", "watch", "run")
ONLY = {"body": ("http",), "outputs": ("http", "kserve"), "schema": ("openai",), "stream": ("openai",), "name": ("openai",)}
"""Keys of a remote model, by the protocols for which they have an effect."""


def here_or_elsewhere(table: Model, raw: Raw) -> Wrong:
    if "url" not in raw:
        if "path" not in raw:
            yield (
                "path",
                "required: a folder with model.onnx and model.toml, or a bare .onnx; or url, for a model that runs elsewhere",
                "table",
            )
        for key in OF_REMOTE:
            if key in raw:
                yield key, "has no effect without url: it is for a model that runs elsewhere", "key"
        return
    if "path" in raw:
        yield "path", "has no effect with url: the model runs elsewhere; remove one of the two", "key"
    for key in OF_LOCAL:
        if key in raw:
            yield key, "has no effect with url: the model runs elsewhere", "key"
    yield from _of_protocol(table, raw)


def _of_protocol(table: Model, raw: Raw) -> Wrong:
    if importlib.util.find_spec("h11") is None:
        yield "url", 'needs h11, which is not installed; pip install "edged[remote]"'
    if "protocol" not in raw:
        yield "protocol", 'required with url: one of "kserve" "http" "openai"', "table"
        return
    if table.protocol == "openai" and "name" not in raw:
        yield "name", "required for openai: what the peer calls the model", "table"
    if table.protocol == "openai" and "labels" in raw:
        yield "labels", "has no effect with openai, which gives text", "key"
    if table.stream and table.protocol == "kserve":
        yield "stream", "has no effect with kserve: tensors do not come in parts", "key"
    elif table.stream and "schema" in raw:
        yield "stream", "has no effect with schema: an object is one only when it is whole", "key"
    for key, protocols in ONLY.items():
        if key in raw and table.protocol not in protocols and not (key == "stream" and table.protocol == "kserve"):
            yield key, f"has no effect with {table.protocol}; it belongs to {' and '.join(protocols)}", "key"
    if table.ca is not None and table.url is not None and not table.url.is_tls:
        yield "ca", "has no effect with http://, which nothing protects; write https://", "key"
    is_secret = table.token is not None or table.headers is not None
    if is_secret and table.url is not None and not table.url.is_tls and not is_loopback(table.url.host):
        yield "token" if table.token is not None else "headers", "goes over the network unprotected; write https:// in url", "key"


def batch_delay(table: Batch, raw: Raw) -> Wrong:
    if table.max == 1 and table.delay:
        yield "delay", "has no effect with max = 1: there is nothing to wait for", "key"


def normalize(table: Step, raw: Raw) -> Wrong:
    if table.step != "normalize":
        return
    pairs = [("mean", "std"), ("min", "max")]
    given = [pair for pair in pairs if any(getattr(table, key) is not None for key in pair)]
    if len(given) != 1:
        found = "both" if given else "neither"
        yield "step", f"normalize needs mean and std, or min and max; found {found}"
        return
    first, second = given[0]
    low, high = getattr(table, first), getattr(table, second)
    if low is None or high is None:
        absent = first if low is None else second
        yield absent, f"required: normalize needs {first} and {second}", "table"
    elif len(low) != len(high) and 1 not in (len(low), len(high)):
        yield second, f"expected as many numbers as in {first}, {len(low)}, found {len(high)}"
    elif second == "std" and any(x == 0 for x in high):
        yield "std", "expected numbers other than 0, since the values are divided by them"
    elif second == "max" and any(a >= b for a, b in zip(_spread(low, len(high)), _spread(high, len(low)), strict=True)):
        yield "max", "expected numbers greater than those of min"


def logarithm(table: Step, raw: Raw) -> Wrong:
    for key in ("ref", "amin", "top_db"):
        if table.log_offset is not None and key in raw:
            yield key, "has no effect beside log_offset, which takes the natural logarithm and no decibels", "key"


def _spread(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    return values * count if len(values) == 1 else values


def constant_or_fields(table: Input, raw: Raw) -> Wrong:
    if "value" in raw:
        for key in ("fields", "size", "layout"):
            if key in raw:
                yield key, "has no effect beside value, which is a constant instead of fields; remove one of the two", "key"
    if "template" in raw:
        for key in ("fields", "size", "layout", "value"):
            if key in raw:
                yield key, "has no effect beside template, which names its fields itself", "key"
    for name, count in Counter(table.fields or ()).items():
        if count > 1:
            yield "fields", f'"{name}" is listed {count} times'


RULES: dict[type[Table], tuple[Rule, ...]] = {
    ProviderOptions: (Rule(tuple(KNOWN), provider_options),),
    Model: (
        Rule(("providers", "provider_options"), options_of_others),
        Rule(("path", "url", "protocol", "name", "token", "headers", "ca", "stream", "schema"), here_or_elsewhere),
    ),
    Step: (Rule(("step", "mean", "std", "min", "max"), normalize), Rule(("step", "log_offset"), logarithm)),
    Input: (Rule(("fields", "value", "template"), constant_or_fields),),
    Batch: (Rule(("max", "delay"), batch_delay),),
}
