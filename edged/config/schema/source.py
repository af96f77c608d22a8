"""`[source.NAME]` of every kind, and `[port.NAME]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edged.config.parsers.choices import Flag, OneOf
from edged.config.parsers.measures import (
    Duration,
    Packet,
    Period,
    Rate,
    Silence,
)
from edged.config.parsers.names import (
    FieldName,
    Filter,
    Name,
    Topic,
)
from edged.config.parsers.numbers import (
    Count,
    Index,
    PlainBytes,
    Speed,
    StopBits,
    integer,
)
from edged.config.parsers.paths import DevicePath, FilePath, KeyTableFile
from edged.config.schema.decode import Decode
from edged.config.schema.frame import Checksum, Frame, UsbPort
from edged.config.schema.keys import Key, Limit, Several, Table
from edged.notation.units import KIB, S
from edged.notation.values import NEVER
from edged.records import Cap


class Source(Table, frozen=True, kw_only=True):
    """What every source has."""

    rate: Annotated[
        Rate | None,
        Key(
            "the expected samples per second of one key: for windows in seconds, for the times of samples, and to notice silence"
        ),
    ] = None
    on_bad: Annotated[
        Literal["drop", "hold", "pass"],
        Key(
            "what becomes of a value that is absent, null, not finite, outside `valid`, or too old in a join. "
            "drop: drop the sample; hold: use the last good value; pass: use it as it is (absent: NaN). After "
            "hold and pass edged marks the result `degraded`"
        ),
    ] = "drop"


class Rejects(Table, frozen=True, kw_only=True):
    """Where edged publishes what a source refuses: a dead-letter topic."""

    FIRST = "topic"
    topic: Annotated[
        Topic,
        Key(
            "gets `device`, `source`, `time`, `reason`, `detail`, `times`, and the payload as `text`, or `base64` where it is "
            "none; at QoS 0. May hold `{device}`, `{base_topic}` and `{source}`"
        ),
    ]
    broker: Annotated[Name | None, Key("the broker to publish at", default="the only one")] = None
    limit: Annotated[Limit, Key("the most messages; `left_out` in them says how many others there were", default='`"1/s"`')] = (
        Cap(1, S),
    )
    max_bytes: Annotated[Packet, Key("of the payload, or of the frame of a port; at most 4 KiB")] = 4 * KIB


KeysOf = Annotated[
    KeyTableFile | None,
    Key(
        (
            "a CSV with a row for each key and the columns in which they differ: `key` (as results write it), "
            "`FIELD.scale`, `FIELD.offset`, `FIELD.valid.low`, `FIELD.valid.high`, `PIPELINE.above`, "
            "`PIPELINE.below`, `PIPELINE.release`; `label` and `tags.NAME` go into results as `key_label` and "
            "`key_tags`. For an empty cell, or a key without a row, the configuration applies. edged reloads the "
            "table when you save it"
        ),
        default="none",
    ),
]


class DecodedSource(Source, frozen=True, kw_only=True):
    """What every source of bytes has."""

    decode: Annotated[Decode, Key("bytes to named values")]
    key: Annotated[
        Annotated[tuple[FieldName, ...], Several()] | None,
        Key(
            (
                "what tells the sensors of this stream apart: captures of the topic, or fields of the payload. Each "
                "key has its own windows, state and filters"
            ),
            default="all captures of `topic`, else none",
        ),
    ] = None
    where: Annotated[
        dict[str, Annotated[tuple[OneOf, ...], Several(1)]] | None,
        Key(
            (
                "take only messages whose field, column, member or capture equals this, or one of these: `{ kind = "
                '["GPGGA", "GNGGA"] }`. Texts, numbers, true and false; edged judges it before columns and values. '
                "All other messages count as `other`, without a line in the log. What it names is not an input of the "
                "model"
            ),
            default="all messages",
        ),
    ] = None
    every: Annotated[
        Period | None,
        Key(
            (
                "take one sample (of each key) in this time: the first of each interval. The rest is acknowledged, "
                "counts as `thinned`, and is not decoded where `topic` tells the key. Windows, `gap` and `align` "
                "count what is left"
            ),
            default="all samples",
        ),
    ] = None
    rejects: Annotated[
        Rejects | None, Key("publish what was refused: a dead-letter topic. Not what is `other`, `partial` or `thinned`")
    ] = None
    lateness: Annotated[
        Duration,
        Key(
            (
                "how long samples with `decode.time` wait to be put in order by their time, for windows and joins of "
                "what arrives out of order. edged acknowledges them while they wait; what arrives later still is "
                "`late`"
            ),
            default='`"0s"`',
        ),
    ] = 0
    keys: KeysOf = None
    max_keys: Annotated[
        Count | None,
        Key(
            (
                "the most keys. When all places are taken, edged evicts the least recently seen key if it is "
                "stale; otherwise edged refuses the new key and counts it"
            ),
            default="256 if keyed",
        ),
    ] = None
    carry: Annotated[
        Annotated[tuple[FieldName, ...], Several()],
        Key(
            (
                "fields of the payload (json, msgpack, cbor, around `payload`) that edged copies into `carried` of "
                "the result, such as the id of an input. Texts, numbers, true, false, null, at most 256 bytes "
                "together; for a window, those of its newest sample"
            ),
            default="none",
        ),
    ] = ()
    stale_after: Annotated[
        Silence | None,
        Key(
            (
                "a sensor without a good sample (of a key) for longer is `silent`, and its availability topic says "
                "`offline`. A join takes no older value, and a full table of keys gives its place to another key"
            ),
            default="3 periods of `rate`, at least 2s; without `rate` `silent` after 10 gaps, at least 30s, once 50 gaps (of a "
            "key) were regular; joins and tables of keys do not follow that",
        ),
    ] = None
    frozen_after: Annotated[
        Period | None,
        Key(
            (
                "a sensor with the same values (of a key) for longer, by their time, is `frozen` and `offline`, and "
                "edged marks its results `degraded`, until a value changes"
            ),
            default="never",
        ),
    ] = None


class Send(Table, frozen=True, kw_only=True):
    """What edged writes to the port. `edged check` prints it, since it may start a device."""

    FIRST = "data"
    data: Annotated[PlainBytes, Key("the bytes to send")]
    every: Annotated[
        Period | None,
        Key(
            (
                "the pace of sending; several entries take turns, the next when the answer arrived or `timeout` is "
                "over. Where there are others, edged sends an entry that is not answered less and less often"
            ),
            default="once, when the port opens",
        ),
    ] = None
    checksum: Annotated[Checksum, Key("the checksum that edged adds to the end", default='`"none"`')] = Checksum()
    answer: Annotated[
        PlainBytes | None,
        Key(
            (
                "what must arrive before data does: edged skips everything up to its end, and sends `data` again if "
                "it does not arrive"
            ),
            default="none",
        ),
    ] = None
    timeout: Annotated[Period | None, Key("the longest wait for an answer", default="the shorter of `every` and 1s")] = None
    delay: Annotated[Duration, Key("a pause before sending", default='`"0s"`')] = 0
    break_: Annotated[Period | None, Key("a line break before sending (SDI-12)", default="none")] = None


# What a table says of a serial line: a port that several sources share, a serial source, a Modbus source.
PortPath = Annotated[
    DevicePath | UsbPort, Key("the port: `/dev/serial/by-id/...` survives replugging; or a USB adapter: `{ vid, pid, serial }`")
]
PortOrName = Annotated[
    DevicePath | UsbPort,
    Key(
        "the port: `/dev/serial/by-id/...` survives replugging; or `{ vid, pid, serial }`; or the name of a `[port.NAME]`, "
        "which then has the keys of the line, `frame`, `checksum`, `max_bytes` and `send`"
    ),
]
Baudrate = Annotated[Annotated[int, integer(50, 20_000_000)], Key("ignored by USB-native boards")]
ByteSize = Annotated[Literal[5, 6, 7, 8], Key("data bits")]
Parity = Annotated[
    Literal["none", "even", "odd"], Key("the parity bit. edged refuses a frame with a byte whose parity is wrong, as `parity`")
]
Stops = Annotated[StopBits, Key("stop bits")]
FlowControl = Annotated[Literal["none", "rtscts", "xonxoff"], Key("flow control")]
Dtr = Annotated[Flag, Key("the state of the DTR line when the port opens; with `true`, some ESP32 boards reset or stay in reset")]
Rts = Annotated[Flag, Key("the state of the RTS line when the port opens")]
Rs485 = Annotated[
    Flag, Key("the kernel's driver switches an RS-485 transmitter; most USB adapters do that by themselves and need no key")
]
FrameKey = Annotated[Frame, Key("how bytes become frames", default='`"line"`')]
ChecksumKey = Annotated[Checksum, Key("the checksum at the end of a frame", default='`"none"`')]
LargestFrame = Annotated[Packet, Key("the largest frame", default="4KiB, image: 4MiB")]
Sends = Annotated[
    Annotated[tuple[Send, ...], Several()],
    Key("what edged writes to the port when it opens it, and at a pace; `rate` then follows from `every`", default="none"),
]


class Port(Table, frozen=True, kw_only=True):
    """A serial port that several sources share: it is opened, asked and recorded once. A frame goes to every source of the port
    whose `where` fits; one that fits none counts as `other` of the port."""

    port: PortPath
    baudrate: Baudrate = 115200
    bytesize: ByteSize = 8
    parity: Parity = "none"
    stopbits: Stops = 1.0
    flow: FlowControl = "none"
    dtr: Dtr = True
    rts: Rts = True
    rs485: Rs485 = False
    frame: FrameKey = Frame()
    checksum: ChecksumKey = Checksum()
    max_bytes: LargestFrame = 4 * KIB
    send: Sends = ()


class SerialSource(DecodedSource, frozen=True, kw_only=True):
    """A serial port."""

    type: Annotated[Literal["serial"], Key("what kind of source this is")] = "serial"
    port: PortOrName
    baudrate: Baudrate = 115200
    bytesize: ByteSize = 8
    parity: Parity = "none"
    stopbits: Stops = 1.0
    flow: FlowControl = "none"
    dtr: Dtr = True
    rts: Rts = True
    rs485: Rs485 = False
    frame: FrameKey = Frame()
    checksum: ChecksumKey = Checksum()
    max_bytes: LargestFrame = 4 * KIB
    send: Sends = ()


class ModbusDecode(Decode, frozen=True, kw_only=True):
    """Registers to named values. It has no `format`: Modbus says how a register is written."""

    format: Annotated[Literal["modbus"], Key("Modbus says it: leave it out")] = "modbus"


class ModbusSource(Source, frozen=True, kw_only=True):
    """Units on a Modbus RTU bus, which edged asks at a pace: one sample of each unit in each round."""

    carry: ClassVar[tuple[str, ...]] = ()
    where: ClassVar[None] = None
    lateness: ClassVar[int] = 0
    bytesize: ClassVar[int] = 8
    flow: ClassVar[str] = "none"
    dtr: ClassVar[bool] = True
    rts: ClassVar[bool] = True
    max_bytes: ClassVar[int] = 4 * KIB

    type: Annotated[Literal["modbus"], Key("what kind of source this is")] = "modbus"
    port: PortOrName
    baudrate: Baudrate = 9600
    parity: Parity = "none"
    stopbits: Stops = 1.0
    rs485: Rs485 = False
    address: Annotated[
        Annotated[tuple[Annotated[int, integer(1, 247)], ...], Several(1)],
        Key("addresses of units on the bus; several make the source keyed by `address`", default="`1`"),
    ] = (1,)
    every: Annotated[Period, Key("each unit is asked once in this time; `rate` follows from it")]
    timeout: Annotated[
        Period,
        Key("the longest wait for an answer; edged asks a unit that fails less and less often, and does not delay the others"),
    ] = 500_000_000
    decode: Annotated[ModbusDecode, Key("registers to named values")]
    keys: KeysOf = None
    stale_after: Annotated[Silence | None, Key("no good sample of a unit for longer: it is `offline`")] = None
    frozen_after: Annotated[Period | None, Key("a unit with the same values for longer is `frozen`", default="never")] = None

    @property
    def key(self) -> tuple[str, ...]:
        return ("address",) if len(self.address) > 1 else ()

    @property
    def max_keys(self) -> int:
        return len(self.address)


class MqttSource(DecodedSource, frozen=True, kw_only=True):
    """Topics of a broker."""

    type: Annotated[Literal["mqtt"], Key("what kind of source this is")] = "mqtt"
    broker: Annotated[Name | None, Key("the broker to subscribe at", default="the only one")] = None
    topic: Annotated[Annotated[tuple[Filter, ...], Several(1)], Key("the topics to subscribe to: filters, with captures")]
    qos: Annotated[Literal[0, 1], Key("the QoS of the subscription; edged receives QoS 2 publishers at 1")] = 1
    share: Annotated[
        Name | None,
        Key(
            (
                "the group that shares the work: the broker deals the messages to all daemons that name it (MQTT 5, "
                "`$share/NAME/...`). Not together with what needs all samples of a key in one place"
            ),
            default="none: every daemon gets all messages",
        ),
    ] = None
    retained: Annotated[
        Flag,
        Key("whether to take the message that the broker kept from before; off, since it is old but looks new"),
    ] = False
    reply: Annotated[
        Annotated[tuple[Filter, ...], Several()],
        Key(
            "Response Topics of MQTT 5 that may be answered (filters): a request gets its result there, with its Correlation "
            "Data, and it is published nowhere else; without it requests get no reply",
            default="none",
        ),
    ] = ()
    max_bytes: Annotated[
        Packet,
        Key("the largest payload; the MQTT 5 Maximum Packet Size follows from it", default="64KiB, image: 4MiB"),
    ] = 64 * KIB


class ReplaySource(DecodedSource, frozen=True, kw_only=True):
    """A recording."""

    type: Annotated[Literal["replay"], Key("what kind of source this is")] = "replay"
    path: Annotated[FilePath, Key("a recording (`edged record`) or any file of frames")]
    speed: Annotated[
        Speed,
        Key("1: as recorded; 0: as fast as possible, by the clock of the recording, with the same results every time"),
    ] = 1.0
    frame: Annotated[Frame, Key("how bytes become frames", default='`"line"`')] = Frame()
    checksum: Annotated[Checksum, Key("the checksum at the end of a frame", default='`"none"`')] = Checksum()
    max_bytes: Annotated[Packet, Key("the largest frame or payload", default="64KiB, image: 4MiB")] = 64 * KIB


class MadeSource(Source, frozen=True, kw_only=True):
    """What every source is that makes its samples itself: nothing is decoded."""

    decode: ClassVar[None] = None
    key: ClassVar[tuple[str, ...]] = ()
    carry: ClassVar[tuple[str, ...]] = ()
    where: ClassVar[None] = None
    every: ClassVar[None] = None
    lateness: ClassVar[int] = 0
    keys: ClassVar[None] = None
    max_keys: ClassVar[None] = None
    stale_after: ClassVar[None] = None
    frozen_after: ClassVar[None] = None


class SimulateSource(MadeSource, frozen=True, kw_only=True):
    """A signal that edged makes from a seed: fields `ax`, `ay`, `az`."""

    type: Annotated[Literal["simulate"], Key("what kind of source this is")] = "simulate"
    rate: Annotated[Rate, Key("samples per second")]
    signal: Annotated[Literal["vibration", "sine", "noise"], Key("fields `ax`, `ay`, `az`")]
    seed: Annotated[Index, Key("the same seed gives the same signal")] = 0


class AskSource(MadeSource, frozen=True, kw_only=True):
    """What behaviours ask, by `me.ask` of a pipeline that reads it. `source = "ask"` of a pipeline is short for one."""

    stale_after: ClassVar[int] = NEVER  # type: ignore[assignment]  # nothing comes of itself

    type: Annotated[Literal["ask"], Key("what kind of source this is")] = "ask"
    fields: Annotated[Annotated[tuple[FieldName, ...], Several(1)], Key("the numbers of a question")]


if TYPE_CHECKING:
    AnySource = SerialSource | MqttSource | ModbusSource | ReplaySource | SimulateSource | AskSource
else:
    AnySource = Source  # of any kind: what has no kind below it; `sources.kinds` has a row for each
