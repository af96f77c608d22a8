"""`[model.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal

from edged.config.external import (
    HeaderText,
    JsonSchema,
    Labels,
    PeerUrl,
    SecretText,
)
from edged.config.parsers.choices import Flag, Option, Providers
from edged.config.parsers.measures import (
    Delay,
    Packet,
    Period,
)
from edged.config.parsers.names import (
    FieldPath,
    Name,
    Text,
)
from edged.config.parsers.numbers import (
    Count,
    Positive,
    Share,
    integer,
)
from edged.config.parsers.paths import FilePath, SmallFile
from edged.config.schema.keys import Key, Limit, Several, Table
from edged.notation.units import S


class Batch(Table, frozen=True, kw_only=True):
    """How many windows make one run."""

    max: Annotated[
        Count | None,
        Key(
            "the most windows in one run",
            default="as the model fixes it, else 16, or 1 where the load shows that more gain nothing",
        ),
    ] = None
    delay: Annotated[
        Delay,
        Key(
            ("how long a run waits for more windows, at most 10s; what arrives while the model runs is a batch anyway"),
            default='`"0s"`',
        ),
    ] = 0


class ProviderOptions(Table, frozen=True, kw_only=True):
    """Options of ONNX Runtime's providers, in its own names. The CPU has none."""

    tensorrt: Annotated[
        dict[str, Option] | None, Key("such as `{ trt_fp16_enable = true }`: half precision, faster and coarser")
    ] = None
    cuda: Annotated[
        dict[str, Option] | None,
        Key("such as `{ enable_cuda_graph = true }`: for models that run on the GPU whole, with fixed shapes"),
    ] = None
    openvino: Annotated[
        dict[str, Option] | None, Key('such as `{ device_type = "GPU" }`: of Intel; without it the CPU, with `threads`')
    ] = None
    qnn: Annotated[dict[str, Option] | None, Key('such as `{ backend_path = "libQnnHtp.so" }`: of Qualcomm')] = None
    coreml: Annotated[dict[str, Option] | None, Key('such as `{ MLComputeUnits = "CPUAndNeuralEngine" }`: of Apple')] = None
    acl: Annotated[dict[str, Option] | None, Key("such as `{ enable_fast_math = true }`: coarser, on Arm")] = None
    xnnpack: Annotated[dict[str, Option] | None, Key("such as `{ intra_op_num_threads = 2 }`; without it `threads`")] = None


REMOTE = "with `url`: "


class Guard(Table, frozen=True, kw_only=True):
    """What a new version must keep to after a swap. If it does worse, edged goes back to the version before by itself."""

    for_: Annotated[Period, Key("how long edged watches it after the swap")]
    not_finite: Annotated[Share | None, Key("the largest share of results that are not finite", default="not judged")] = None
    slower: Annotated[
        Positive | None,
        Key("the largest mean time of a row, as a multiple of that of the version before", default="not judged"),
    ] = None
    failing: Annotated[Flag, Key("whether edged goes back when runs fail")] = True


class RemoteOutput(Table, frozen=True, kw_only=True):
    """One output of a model that runs elsewhere."""

    FIRST = "path"
    path: Annotated[
        FieldPath | None,
        Key("http: where it stands in the JSON of the answer; kserve: what the peer calls it", default="its own name"),
    ] = None
    shape: Annotated[
        Annotated[tuple[Annotated[int, integer(-1, 1 << 24)], ...], Several(1)] | None,
        Key(
            "of one row, such as `[84, 8400]`; -1: of any length. `detect` needs it, and so do pipelines that read the results",
            default="as it comes",
        ),
    ] = None


class Model(Table, frozen=True, kw_only=True):
    """An ONNX model (`path`): a folder with `model.onnx` and `model.toml`, or a bare `.onnx`. Or one elsewhere (`url`)."""

    path: Annotated[
        FilePath | None,
        Key("a folder with `model.onnx` and `model.toml`, or a bare `.onnx`", default="required without `url`"),
    ] = None
    url: Annotated[
        PeerUrl | None,
        Key(
            "instead of `path`: where the model runs, `https://host/v2/models/NAME` (kserve), `https://host/v1` (openai), or the "
            "whole address (http); needs the extra `edged[remote]`"
        ),
    ] = None
    protocol: Annotated[
        Literal["kserve", "http", "openai"] | None,
        Key(
            "kserve: V2 with binary tensors (Triton, OpenVINO Model Server, MLServer); http: a POST; openai: chat completions "
            "(OpenAI, Ollama, vLLM, llama.cpp)",
            default="required with `url`",
        ),
    ] = None
    name: Annotated[Text | None, Key("openai: the model's name at the peer", default="required for openai")] = None
    token: Annotated[SecretText | None, Key(REMOTE + "bearer token")] = None
    headers: Annotated[dict[str, HeaderText] | None, Key(REMOTE + "other headers; nothing shows their values")] = None
    ca: Annotated[SmallFile | None, Key(REMOTE + "certificates that may sign the peer's", default="the system's")] = None
    body: Annotated[
        Literal["json", "raw", "image"],
        Key("http: what is posted: the fields by name, the numbers as they lie in memory, or the picture as JPEG"),
    ] = "json"
    outputs: Annotated[
        dict[str, RemoteOutput] | None,
        Key('http, kserve: its outputs, `{ score = "result.0.p" }` or `{ boxes = { shape = [300, 6] } }`', default="the whole"),
    ] = None
    schema: Annotated[JsonSchema | None, Key("openai: a file with a JSON schema; the answer must fit, and is `answer` too")] = (
        None
    )
    stream: Annotated[
        Flag, Key("openai: the text so far on `TOPIC/partial` while it comes, at most 10 times per second, the whole at the end")
    ] = False
    concurrency: Annotated[Annotated[int, integer(1, 64)], Key(REMOTE + "requests under way")] = 4
    timeout: Annotated[Period, Key(REMOTE + "of one request, from the first byte to the last")] = 30 * S
    retries: Annotated[Annotated[int, integer(0, 10)], Key(REMOTE + "of one row, after a pause that doubles, with jitter")] = 2
    cooldown: Annotated[
        Period, Key(REMOTE + "after 5 failures in a row edged asks nothing for this long, then tries one request")
    ] = 30 * S
    limit: Annotated[
        Limit,
        Key(
            REMOTE + 'most requests, such as `["6/min", "200/d"]`; a row beyond it goes to `fallback`, or is dropped as `limited`'
        ),
    ] = ()
    fallback: Annotated[
        Name | None,
        Key(REMOTE + "the model that answers what this one cannot; results say who did (`by`)", default="such rows are dropped"),
    ] = None
    max_bytes: Annotated[Packet | None, Key(REMOTE + "largest answer", default="256KiB; kserve: 4MiB")] = None
    labels: Annotated[
        Labels | None,
        Key(
            "class names by index; a path is a file with one a line",
            default="the manifest's, or the file's metadata",
        ),
    ] = None
    state: Annotated[
        dict[str, Text] | None,
        Key(
            (
                'what the model remembers of each key: outputs that are inputs of the next run, `{ h_out = "h" }`; '
                "zeros at the start, after a gap, and for another file"
            ),
            default="the manifest's",
        ),
    ] = None
    providers: Annotated[
        Providers,
        Key(
            (
                "the providers that may run the model, best first; a list without `cpu` fails when none of it ran. "
                "auto: whichever of `cuda`, `tensorrt` and `cpu` is fastest here. edged runs the others only if the "
                "list names them and the installed onnxruntime has them"
            ),
            default='`"auto"`',
        ),
    ] = None
    provider_options: Annotated[ProviderOptions | None, Key("options that edged passes to ONNX Runtime", default="see there")] = (
        None
    )
    threads: Annotated[Annotated[int, integer(1, 256)], Key("threads inside one run; they never spin")] = 1
    batch: Annotated[Batch, Key("the most windows in one run", default="as the model fixes it")] = Batch()
    watch: Annotated[Flag, Key("whether edged swaps the model when the file changes")] = True
    guard: Annotated[
        Guard | None, Key("when edged goes back to the version before by itself, because the new one does worse", default="none")
    ] = None
    run: Annotated[
        Literal["auto", "inline", "worker"],
        Key("where runs happen: on the loop, or on a thread of `device.workers`; auto: by the measured time"),
    ] = "auto"
