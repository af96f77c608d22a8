"""The byte table: a line for every consumer of memory, and the sum, before anything starts.

The base is what this process already uses (interpreter and libraries); everything else is arithmetic over the plan. The
arrays of windows, joins, slots and models are counted to the byte; what Python objects and ONNX Runtime take is measured
once and stands here as constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from edged.behaviours.plan import INSTANCE, BehaviourPlan
from edged.clock.caps import REMEMBERED, most
from edged.config.schema import MqttSource, Step
from edged.decode.carry import MAX_BYTES
from edged.decode.plan import DecodePlan
from edged.errors import Problem
from edged.model.fit import fit, wanted_outputs
from edged.model.onnx_file import TensorInfo
from edged.model.records import ModelPlan, Tried
from edged.model.remote.records import RemotePlan
from edged.mqtt.settings import WAITING, LinkSettings
from edged.notation.units import GIB, KIB, MIB
from edged.pipeline.align import AlignPlan
from edged.plan.records import (
    HomeAssistantPlan,
    HttpPlan,
    Machine,
    MemoryLine,
    PipelinePlan,
    Plan,
    PublishPlan,
    SamplesPlan,
    SourcePlan,
)
from edged.plan.results import about_bytes, largest, making_bytes, message_bytes
from edged.plan.sources import mqtt_settings
from edged.records import MESSAGE_OVERHEAD
from edged.sources.kinds import kind_of
from edged.sources.mqtt import MIN_KEPT
from edged.sources.pace import KEY_BYTES as PACE_BYTES
from edged.sources.pictures import MAX_FULL, MAX_ITEMS
from edged.sources.replies import MAX_REQUESTS
from edged.spool.settings import MEMORY_BYTES, SpoolSettings

FIRST_SESSION = 9 * MIB
"""ONNX Runtime's own pages that the first session touches, for a 9 KB model."""
ACTIVATIONS = 1 * MIB
"""Assumed for a model, whose intermediate results are known only once it has run."""
THREAD = 256 * KIB
"""Of a thread that runs models: the pages of its stack, the interpreter's state, and what onnxruntime keeps for it."""
FLEET = 16 * MIB
HTTP = 4 * MIB
REMOTE = 3 * MIB
"""h11 and what TLS takes, with the system's authorities."""
CONNECTION = 128 * KIB
ROW_COPIES = 4
"""Of a row: as numbers, as a request, as text in base64 or JSON, and on its way to the socket."""
SLACK = 5 * MIB
"""What a running daemon takes beyond all that is listed, the MiB that malloc keeps among it, with as much again to spare."""
SERIAL_READ = 64 * KIB
LINK_READ = 256 * KIB
KEY = 400
"""Bytes that a key costs in tables: its names, its ids, its topics."""
SLOT = 200
"""Bytes of a waiting slot beside its numbers: objects, its place in the queue."""
ARRAY = 200
"""Bytes of a small array beside its numbers, with its place in a table."""
CARRIED = MAX_BYTES + 40
"""What a slot keeps of its input for the result, if it does."""
RESULT = 1 * KIB
"""Bytes of a result that `when` keeps for later, at least."""
LARGE = 256 * KIB
"""Results smaller than this have their place in the slack."""
INPUT = 400
"""Bytes of an input that waits beside its topic and payload: objects, receipt, its place in the queue."""
REQUEST = 1 * KIB + 800
"""Bytes of a request that waits for its answer: where that goes, Correlation Data, objects."""
PILLOW = 6 * MIB
"""What the library takes once it has decoded a picture."""
PIXEL = 10
"""Bytes of a pixel while it is decoded: 4 as Pillow keeps it, 6 that a progressive JPEG takes until all of it is read. After that
one with alpha takes 9: 4 as it came, 4 without alpha, 1 in gray."""
PICTURE_ROW = 3 * 8
"""Bytes of a row beside its pixels: where it lies, in each of those three."""
VIEW_PIXEL = 18
"""Bytes of a pixel of what a pipeline sees, while it is made: resized in one direction and in both, then as bytes, twice."""
THINNED_KEY, KEPT_MESSAGE = 80, 512
"""Bytes of a key of which not all samples are taken, and of the newest message of a topic."""
WAITING_ROW = 600
"""Bytes of a sample that waits to be put in order beside its numbers: objects, its place in two queues."""
GATE, GATE_APART = 1 * KIB, 8 * KIB
"""Bytes of what a gate knows of a key; where the gate starts from another source also of what it said before."""
SHOWN_DEVICE, SHOWN_ENTITY = 1 * KIB, 1 * KIB
"""Of a device that Home Assistant is told of, to know what it was told; of an entity, while it is said."""
SAID_AT_ONCE = 2
"""Devices of which what is said is in memory, beside the outbox: as values and as JSON."""
UNKNOWN_OUTPUT = 4 * KIB
"""Assumed for one row of an output whose shape the file leaves open."""


NO_BEHAVIOURS: Mapping[str, BehaviourPlan] = {}


def memory_table(
    machine: Machine,
    links: Mapping[str, LinkSettings],
    sources: Mapping[str, SourcePlan],
    models: Mapping[str, ModelPlan],
    pipelines: Mapping[str, PipelinePlan],
    spool: SpoolSettings | None = None,
    http: HttpPlan | None = None,
    behaviours: Mapping[str, BehaviourPlan] = NO_BEHAVIOURS,
    remotes: Mapping[str, RemotePlan] | None = None,
    workers: int = 1,
    has_fleet: bool = False,
    shown: HomeAssistantPlan | None = None,
) -> tuple[MemoryLine, ...]:
    """Every consumer, in the order in which a person would ask for them."""
    lines = [MemoryLine("interpreter and libraries", machine.base, "this process before it loads anything")]
    if models:
        lines.append(MemoryLine("onnxruntime, first session", FIRST_SESSION, "once", is_of_models=True))
    for name, model in models.items():
        lines += model_lines(name, model)
    for remote in (remotes or {}).values():
        users = [p for p in pipelines.values() if p.ask is not None and p.ask.remote == remote.name]
        lines.append(_remote(remote, users))
    if models:
        threads = min(workers, len(models))
        how = f"{threads} that run models, with what onnxruntime keeps for each"
        lines.append(MemoryLine("model threads", threads * THREAD, how, "device.workers"))
    if any(s.decode is not None and s.decode.is_slow for s in sources.values()):
        lines.append(MemoryLine("Pillow", PILLOW, "once, for pictures"))
    for source in sources.values():
        lines.append(_source(source))
        if source.most_waiting:
            how = f"up to {source.most_waiting} samples that wait to be put in order"
            lines.append(
                MemoryLine(f"source.{source.name}: lateness", waiting_bytes(source), how, f"source.{source.name}.lateness")
            )
        if source.replies:
            how = f"up to {MAX_REQUESTS} that wait for their answers"
            lines.append(MemoryLine(f"source.{source.name}: requests", MAX_REQUESTS * REQUEST, how))
    for pipeline in pipelines.values():
        lines += _pipeline(pipeline, sources)
        lines += _making(pipeline, models.get(pipeline.model or ""), links)
    for name, behaviour in behaviours.items():
        waits = f" + {behaviour.inbox} rows that wait" if behaviour.hears else ""
        how = f"{behaviour.instances} x {INSTANCE // KIB} KiB{waits}"
        size = behaviour.instances * (INSTANCE + behaviour.waiting_bytes + most(behaviour.limits) * REMEMBERED)
        lines.append(MemoryLine(f"behaviour.{name}", size, how, f"behaviour.{name}.inbox" if behaviour.hears else ""))
    for name, link in links.items():
        lines += _link(name, link, sources, pipelines)
    if spool is not None:
        size = largest(pipelines.values())
        how = "messages on their way to disk, a file being replayed"
        size, how = (3 * size, f"{how}, each of a result of up to {size // KIB} KiB") if size >= LARGE else (0, how)
        lines.append(MemoryLine("spool", MEMORY_BYTES + size, how, "spool.mode"))
    if has_fleet:
        lines.append(MemoryLine("fleet", FLEET, "a connection, signatures, TLS, a file on its way to disk"))
    if shown is not None:
        lines.append(_homeassistant(shown))
    if http is not None:
        lines.append(MemoryLine("http", HTTP, "h11, and answers to those that look"))
    lines.append(MemoryLine("slack", SLACK, "fragmentation, logs, the interpreter's free lists"))
    return tuple(lines)


def with_tried(plan: Plan, machine: Machine, found: Mapping[str, Tried]) -> Plan:
    """The plan after models were tried, whose batches are known now."""
    models = {name: replace(m, tried=found.get(name, m.tried)) for name, m in plan.models.items()}
    memory = memory_table(
        machine,
        plan.links,
        plan.sources,
        models,
        plan.pipelines,
        plan.spool,
        plan.http,
        plan.behaviours,
        plan.remotes,
        plan.workers,
        plan.fleet is not None,
        plan.homeassistant,
    )
    return replace(plan, models=models, memory=memory)


def with_measured(lines: Sequence[MemoryLine], grown: int) -> tuple[MemoryLine, ...]:
    """The lines after all models are loaded and have run, which made the process larger by `grown` bytes: where that is more
    than they were assumed to take, with a line for the rest."""
    last = max(i for i, line in enumerate(lines) if line.is_of_models)
    assumed = sum(line.bytes for line in lines if line.is_of_models)
    if grown <= assumed:
        return tuple(lines)
    how = f"measured at load: {_mib(grown)}, {_mib(assumed)} assumed"
    more = MemoryLine("models: activations and copies", grown - assumed, how, is_of_models=True)
    return (*lines[: last + 1], more, *lines[last + 1 :])


def check_budget(lines: Sequence[MemoryLine], budget: int, is_set: bool) -> Problem | None:
    """What does not fit, with the line that is most of it."""
    total = sum(line.bytes for line in lines)
    if total <= budget:
        return None
    of = "the budget is" if is_set else "the default budget, a quarter of this machine and at most 512 MiB, is"
    needs = f"the plan needs {_mib(total)}, {of} {_mib(budget)}"
    largest = max((line for line in lines if line.key), key=lambda line: line.bytes, default=None)
    if largest is None or largest.bytes < total - budget:
        most = sorted(lines, key=lambda line: -line.bytes)[:3]
        parts = ", ".join(f"{line.what} {_mib(line.bytes)}" for line in most)
        return Problem("memory.budget", f"{needs}; most of it: {parts}; set budget to at least {_mib(total + MIB - 1)}")
    text = f"{largest.what}: {largest.how} is {_mib(largest.bytes)}, and {needs}; set {largest.key}"
    return Problem(largest.key.partition(",")[0], text)


def row_fits(source: SourcePlan, budget: int, problems: list[Problem]) -> bool:
    """Whether one sample of a source could be held at all: asked before anything is made of its size."""
    size = source.width * np.dtype(source.dtype).itemsize
    if 2 * size <= budget:
        return True
    text = f"one sample is {source.width} x {source.dtype} = {_large(size)}, held twice; memory.budget is {_mib(budget)}"
    problems.append(Problem(f"source.{source.name}.decode.fields", f"{text}: is shape right?"))
    return False


def window_misfit(size: int, width: int, dtype: str, keys: int, budget: int) -> str:
    """Why windows of so many samples cannot be held at all; empty if they can."""
    need = 2 * size * width * np.dtype(dtype).itemsize * keys
    if need <= budget:
        return ""
    many, fix = (f"{keys} keys x ", "set a smaller size, or max_keys") if keys > 1 else ("", "set a smaller size")
    return f"{many}2 x {size} x {width} {dtype} = {_large(need)}, and memory.budget is {_mib(budget)}: {fix}"


def _large(n: int) -> str:
    return _mib(n) if n < 100 * GIB else f"{n / GIB:.0f} GiB"


def check_cgroup(lines: Sequence[MemoryLine], budget: int, limit: int | None) -> Problem | None:
    """Whether the kernel would end the process, or squeeze it, before it has used what it may."""
    if limit is None or limit >= budget:
        return None
    total = sum(line.bytes for line in lines)
    allows = f"the control group of this process allows {_mib(limit)} (systemd: MemoryMax, MemoryHigh)"
    if total > limit:
        return Problem("memory.budget", f"{allows}, the plan needs {_mib(total)}: allow at least {_mib(total + MIB - 1)}")
    return Problem("memory.budget", f"{allows}, less than the budget of {_mib(budget)}: taken as the budget", is_warning=True)


def _mib(n: int) -> str:
    return f"{n / MIB:.0f} MiB"


def _homeassistant(shown: HomeAssistantPlan) -> MemoryLine:
    entities = [entity for one in shown.shown.values() for entity in one.entities]
    said = sum(SHOWN_ENTITY + sum(map(len, entity.options)) for entity in entities)
    size = (1 + shown.most_devices) * SHOWN_DEVICE + SAID_AT_ONCE * said
    how = f"what {1 + shown.most_devices} devices were told of, {len(entities)} entities being announced"
    return MemoryLine("Home Assistant", size, how, "homeassistant.discovery")


def _remote(remote: RemotePlan, users: Sequence[PipelinePlan]) -> MemoryLine:
    """Requests under way: the row, what is made of it, and an answer as it comes, as text and as numbers; when it was asked."""
    row = max((sum(math.prod(i.shape) * np.dtype(i.dtype).itemsize for i in p.slot_inputs) + _given(p) for p in users), default=0)
    each = ROW_COPIES * row + 3 * remote.max_bytes + CONNECTION
    asked = most(remote.limits) * REMEMBERED
    keys = sum(p.max_keys * len(p.ask.others) for p in users if p.ask is not None) * KEY
    how = f"{remote.concurrency} x (a row of {row // KIB} KiB, an answer of up to {remote.max_bytes // KIB} KiB)"
    name = f"model.{remote.name}"
    size = REMOTE + remote.concurrency * each + asked + keys
    return MemoryLine(f"{name}: requests", size, how, f"{name}.concurrency, or max_bytes")


def _given(p: PipelinePlan) -> int:
    """What a question has beside its numbers."""
    return p.ask.given_bytes if p.ask is not None else 0


def model_lines(name: str, model: ModelPlan) -> Iterator[MemoryLine]:
    weights = model.manifest.onnx.initializer_bytes
    yield MemoryLine(f"model.{name}: weights", weights, "initializers of the file", is_of_models=True)
    yield MemoryLine(f"model.{name}: activations", ACTIVATIONS, "assumed; measured at load", is_of_models=True)
    fitted, _ = fit(model)
    batch = fitted.batch_max if fitted is not None else 1
    if model.threads > 1:
        threads = (model.threads - 1) * THREAD
        yield MemoryLine(f"model.{name}: threads", threads, f"{model.threads} work on a run", is_of_models=True)
    shapes = " + ".join(f"{n}{list(s)}" for n, s in model.rows.items())
    how = f"{batch} rows of {shapes}, and of the outputs"
    yield MemoryLine(f"model.{name}: arrays", batch * model_row_bytes(model), how, f"model.{name}.batch", is_of_models=True)


def model_row_bytes(model: ModelPlan) -> int:
    """One row of all inputs and of the wanted outputs."""
    inputs = {i.name: i for i in model.inputs}
    names = wanted_outputs(model)
    wanted = [o for o in model.manifest.onnx.outputs if o.name in names]
    given = sum(math.prod(shape) * np.dtype(inputs[n].dtype).itemsize for n, shape in model.rows.items())
    states = {s.output: math.prod(s.shape) * np.dtype(s.dtype).itemsize for s in model.manifest.states}
    turned = 2 * sum(states[s.output] for s in model.manifest.states if s.is_turned)
    return given + turned + sum(states.get(o.name) or _output_bytes(o) for o in wanted)


def _output_bytes(output: TensorInfo) -> int:
    if output.shape is None or output.dtype in (None, "string"):
        return UNKNOWN_OUTPUT
    sizes = [a for a in output.shape[1:] if isinstance(a, int)]
    is_known = len(sizes) == len(output.shape[1:])
    return math.prod(sizes) * np.dtype(output.dtype).itemsize if is_known else UNKNOWN_OUTPUT


def _source(source: SourcePlan) -> MemoryLine:
    keys, what = (
        source.max_keys * KEY + freshness_bytes(source) + _more_by_key(source) + held_bytes(source),
        f"source.{source.name}: read and decode",
    )
    if source.decode is not None and source.decode.is_slow:
        return _pictures(source, source.decode, keys)
    said = f"{source.max_keys} keys, " if source.key_names else ""
    most = f"source.{source.name}.max_keys" if keys > 2 * (source.decode.max_bytes if source.decode else 0) else ""
    if source.decode is None:
        return MemoryLine(what, keys + SERIAL_READ, "a block of samples")
    if kind_of(source.settings).frames is None:
        largest, count = source.decode.max_bytes, 4 if is_opened(source.decode) else 2
        how, key = f"{said}{count} payloads of {largest // KIB} KiB", most or f"source.{source.name}.max_bytes"
        return MemoryLine(what, keys + count * largest, how, key)
    # A read as text, as separators found, and as numbers; the frame that is not complete yet.
    frame = source.decode.max_bytes
    key = most or f"source.{source.name}.max_bytes"
    return MemoryLine(what, keys + 6 * SERIAL_READ + frame, f"{said}reads of 64 KiB", key)


def _more_by_key(source: SourcePlan) -> int:
    """What `thinning.Thinning`, `kept.KeptMessages` and `by_key.ByKey` hold."""
    thinned = source.max_keys * THINNED_KEY if source.every_ns is not None else 0
    is_kept = isinstance(source.settings, MqttSource) and source.settings.retained
    by_key = source.decode.by_key if source.decode is not None else None
    corrected = 0 if by_key is None else len(by_key.keys) * (KEY + 4 * 8 * source.width)
    return thinned + corrected + (max(MIN_KEPT, source.max_keys) * KEPT_MESSAGE if is_kept else 0)


def _pictures(source: SourcePlan, decode: DecodePlan, keys: int) -> MemoryLine:
    """Payloads that wait to be decoded, one picture as pixels, and what pipelines see of it, made and on its way."""
    said = f"{source.max_keys} keys, " if source.key_names else ""
    waiting = 2 if _has_qos1(source) else MAX_FULL  # at QoS 1 those that wait are the unacknowledged inputs of the broker
    waiting += 2 if is_opened(decode) else 0
    size = waiting * decode.max_bytes + picture_bytes(decode) + 2 * source.width + MAX_ITEMS * INPUT
    how = f"{said}{waiting} payloads of {decode.max_bytes // KIB} KiB, a picture of {decode.max_pixels / 1e6:.1f} megapixels"
    name = f"source.{source.name}"
    return MemoryLine(f"{name}: read and decode", keys + size, how, f"{name}.decode.max_pixels, or max_bytes")


def is_opened(decode: DecodePlan) -> bool:
    """Whether what is decoded is first taken out of a payload: as text, and as the bytes that it stands for."""
    return decode.payload is not None or decode.encoding is not None or decode.compress is not None


def held_bytes(source: SourcePlan) -> int:
    """The last values of each sensor, and where they grow too old when each was seen."""
    if source.decode is None or not source.decode.holds:
        return 0
    return source.max_keys * (2 * (source.width * 8 + ARRAY))


def picture_bytes(decode: DecodePlan) -> int:
    """What `image.Pictures` takes while it decodes one, beside its payload and its row: a copy of the payload, without what is
    not needed, and pixels."""
    from edged.decode.image import MAX_SIDE

    largest = max((view.size[0] * view.size[1] for view in decode.views), default=0)
    return decode.max_bytes + decode.max_pixels * PIXEL + MAX_SIDE * PICTURE_ROW + largest * VIEW_PIXEL


def waiting_bytes(source: SourcePlan) -> int:
    """What `lateness.Lateness` holds, and the block that it makes of all of it."""
    row = source.width * np.dtype(source.dtype).itemsize
    carried = CARRIED if source.settings.carry else 0
    return source.most_waiting * (WAITING_ROW + 2 * row + carried)


def freshness_bytes(source: SourcePlan) -> int:
    """What `freshness.Freshness` holds: the last good time of each key, its pace if that is learned, and its last row if it may
    be frozen."""
    row = source.width * np.dtype(source.dtype).itemsize + 9 if source.frozen_ns is not None else 0
    return source.max_keys * (row + 10 + (PACE_BYTES if source.learns_pace else 0))


def _pipeline(p: PipelinePlan, sources: Mapping[str, SourcePlan]) -> Iterator[MemoryLine]:
    name = f"pipeline.{p.name}"
    keyed = next((s for s in p.sources if s in sources and sources[s].key_names), None)
    keys = f"{p.max_keys} keys x " if p.keys else ""
    max_keys = f"source.{keyed}.max_keys, or " if keyed is not None else ""
    if p.align is not None:
        how = f"{keys}{p.align.width} values, {join_rows(p.align)} rows kept"
        yield MemoryLine(f"{name}: join", join_bytes(p.align), how, f"{max_keys}{name}.align.tolerance")
    if p.window is not None:
        how = f"{keys}2 x {p.window.size} x {p.width} {p.dtype}"
        yield MemoryLine(f"{name}: windows", window_bytes(p), how, f"{max_keys}{name}.window.size")
    if p.step_bytes:
        yield MemoryLine(f"{name}: steps", p.step_bytes, ", ".join(map(step_name, p.steps)))
    if p.has_slots:
        rows = [i for i in p.slot_inputs if i.is_row]
        shapes = " + ".join(f"{' x '.join(map(str, i.shape)) or '1'} {i.dtype}" for i in rows)
        one = sum(math.prod(i.shape) * np.dtype(i.dtype).itemsize for i in rows)
        is_by_key = bool(p.keys) and p.slots == p.max_keys
        how = f"{p.slots} x {shapes}" + (", one per key" if is_by_key else "")
        key = f"{max_keys}{name}.slots" if is_by_key else f"{name}.slots"
        carried = CARRIED if any(sources[s].settings.carry for s in p.roots) else 0
        if given := _given(p):
            how += f", texts and pictures of questions, up to {given // KIB} KiB each"
        yield MemoryLine(f"{name}: slots", p.slots * (one + SLOT + carried + given), how, key)
    if p.gate is not None:
        most, each = (p.max_keys if p.gate.is_keyed else 1), GATE if p.gate.fork is not None else GATE_APART
        how = f"{keys if p.gate.is_keyed else ''}what {p.gate.source} said"
        yield MemoryLine(f"{name}: gate", most * each, how, f"{max_keys}{name}.gate")
    if p.states:
        shapes = " + ".join(f"{s.input}{list(s.shape)} {s.dtype}" for s in p.states)
        yield MemoryLine(f"{name}: state of the model", state_bytes(p), f"{keys}{shapes}", f"{max_keys}model.{p.model}.state")
    if p.about or p.output.keys_apart:
        size = KEY * (len(p.about) + p.output.keys_apart) + about_bytes(p) * len(p.about)
        yield MemoryLine(f"{name}: keys", size, f"{len(p.about)} labels and tags, {p.output.keys_apart} limits")
    yield MemoryLine(f"{name}: state of results", result_bytes(p), keys.removesuffix(" x ") or "one key")
    if p.samples is not None:
        how = f"what came in lately of {', '.join(root.source for root in p.samples.roots)}, and of it what is on its way"
        yield MemoryLine(f"{name}: samples", samples_bytes(p.samples), how, f"{name}.samples")


def _making(p: PipelinePlan, model: ModelPlan | None, links: Mapping[str, LinkSettings]) -> Iterator[MemoryLine]:
    """Results on their way from the model to the outbox, where that is worth a line."""
    fitted = fit(model)[0] if model is not None else None
    batch = fitted.batch_max if fitted is not None else 1
    if p.overflow == "block":  # no more are run than find room
        room = (links[x.broker].outbox_bytes // 2 // message_bytes(p, x) for x in p.publishes if x.broker in links)
        batch = min([batch, *room])
    if (size := making_bytes(p, batch)) >= LARGE:
        name = f"pipeline.{p.name}"
        yield MemoryLine(f"{name}: results", size, f"{batch} at a time, {largest([p]) // KIB} KiB each", f"{name}.publish")


def samples_bytes(p: SamplesPlan) -> int:
    """What is at hand, as much again that waits to be written, and that as a recording; when the last ones were kept."""
    return 3 * p.recent_bytes + REMEMBERED * most(p.limits)


def state_bytes(p: PipelinePlan) -> int:
    """What `States` holds: a row of each state by key, three numbers, and what the states of known keys begin with."""
    starts = sum(len(s.starts) * (KEY + 40 * math.prod(s.shape)) for s in p.states)  # in the plan, and as arrays
    return starts + p.max_keys * (sum(math.prod(s.shape) * np.dtype(s.dtype).itemsize for s in p.states) + 3 * 36)


def step_name(step: Step) -> str:
    """`detrend`, or `steps.py:scale`."""
    return step.step if isinstance(step.step, str) else f"{step.step.path.name}:{step.step.name}"


def window_bytes(p: PipelinePlan) -> int:
    """What `window.WindowStage` holds: for each key twice its window, and ten numbers."""
    if p.window is None:
        return 0
    return p.max_keys * (2 * p.window.size * p.width * np.dtype(p.dtype).itemsize + 10 * 8)


def join_rows(align: AlignPlan) -> int:
    """Rows that `align.Aligner` keeps: of the joined streams, and those that wait."""
    waiting = 0 if align.method == "previous" else align.max_waiting
    return (
        sum(2 * s.history * (align.max_keys if s.is_keyed else 1) for i, s in enumerate(align.sources) if i != align.to) + waiting
    )


def join_bytes(align: AlignPlan) -> int:
    """What `align.Aligner` holds: rows with a time and a flag, by key; the rows that wait, with a quarter to spare."""
    item, total = np.dtype(align.dtype).itemsize, 0
    for i, source in enumerate(align.sources):
        if i != align.to:
            keys = align.max_keys if source.is_keyed else 1
            total += keys * (2 * source.history * (source.width * item + 9) + 16)
    if align.method != "previous":
        pace = 0 if align.to is None else align.sources[align.to].width
        total += (align.max_waiting + (align.max_waiting + 3) // 4) * (pace * item + 25)
    return total


def result_bytes(p: PipelinePlan) -> int:
    """The last results of each key where they are averaged, and one result a key where an interval may hold it back."""
    averaged = p.output.averaged * 8 * (p.output.smooth - 1)
    keeping = [x for x in p.publishes if x.when is not None and (x.when.min_interval or x.when.max_interval) is not None]
    each = made if (made := making_bytes(p, 1)) >= LARGE else RESULT
    kept = sum(each + 32 + (message_bytes(p, x) if _is_copied(x) else 0) for x in keeping)
    return p.max_keys * (averaged + 16 + kept)


def _is_copied(x: PublishPlan) -> bool:
    """Whether what it holds back is made a message at once, with a copy in the spool."""
    return x.settings.qos == 1 and x.when is not None and x.when.min_interval is not None


def _has_qos1(source: SourcePlan) -> bool:
    return kind_of(source.settings).is_acknowledged(source.settings)


def _held_bytes(source: SourcePlan) -> int:
    """The most that one input holds while it is not acknowledged: as it came, or as rows."""
    return max(mqtt_settings(source).max_bytes, source.width if source.decode is not None and source.decode.is_slow else 0)


def _link(
    name: str, link: LinkSettings, sources: Mapping[str, SourcePlan], pipelines: Mapping[str, PipelinePlan]
) -> Iterator[MemoryLine]:
    how = f"{link.outbox_bytes // KIB} KiB out, {LINK_READ // KIB} KiB + two packets of {link.max_packet // KIB} KiB in"
    size = link.outbox_bytes + LINK_READ + 2 * link.max_packet  # one that comes in, and as much that waits to be handled
    yield MemoryLine(f"broker.{name}: buffers", size, how, f"broker.{name}.max_packet")
    if any(s.qos for s in link.subscriptions):  # what a broker sends beyond the receive maximum: one packet's worth of bytes
        waiting = WAITING * link.receive_maximum
        how = f"{link.max_packet // KIB} KiB in up to {waiting} messages"
        yield MemoryLine(f"broker.{name}: inputs too many", link.max_packet + waiting * INPUT, how, f"broker.{name}.max_packet")
    # Payloads that pipelines with `overflow = "block"` may hold back unacknowledged.
    blocking = {s for p in pipelines.values() if p.overflow == "block" for s in p.sources}
    waiting_pictures = {s.name for s in sources.values() if s.decode is not None and s.decode.is_slow and _has_qos1(s)}
    held = [_held_bytes(s) for s in sources.values() if s.name in blocking | waiting_pictures and s.broker == name]
    if held:
        most = link.receive_maximum * (max(held) + MESSAGE_OVERHEAD)
        how = f"{link.receive_maximum} x {max(held) // KIB} KiB"
        yield MemoryLine(f"broker.{name}: unacknowledged inputs", most, how, f"broker.{name}.receive_maximum")
