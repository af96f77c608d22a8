"""The configuration's tables: one frozen struct a table, one attribute a key, in the order of the reference page.

Values are parsed: durations are ns, sizes bytes, rates per second, paths absolute, `T+` a tuple. A key whose default
depends on other tables or on the machine is None here and is resolved in the plan. `Key` carries what the reference page
says of a key and where it has an effect; the loader and the page both read it from here, so that neither can drift.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from edged.config.external import (
    Charset,
    ClientId,
    DeviceId,
    Ext,
    HeaderText,
    JsonSchema,
    Labels,
    PeerUrl,
    PrivateKey,
    SecretText,
    Url,
)
from edged.config.parsers.choices import Absent, Anything, ByteOrder, Flag, OneOf, Option, Providers, WireType
from edged.config.parsers.measures import (
    CapOf,
    Delay,
    Duration,
    Expiry,
    Keepalive,
    Packet,
    Period,
    Rate,
    Samples,
    Silence,
    Size,
    Zone,
)
from edged.config.parsers.names import (
    BaseTopic,
    FieldName,
    FieldPath,
    Filter,
    HttpsFolder,
    Label,
    Latch,
    Listen,
    Name,
    Pattern,
    Tag,
    Text,
    Topic,
)
from edged.config.parsers.numbers import (
    Bits,
    Byte,
    Constant,
    Count,
    DeadBand,
    Edges,
    Factor,
    Index,
    LineStart,
    Marker,
    NotNegative,
    Number,
    Numbers,
    PictureSize,
    PlainBytes,
    Positive,
    Range,
    Reference,
    Register,
    Share,
    Speed,
    StopBits,
    UsbId,
    Workers,
    integer,
)
from edged.config.parsers.paths import Custom, DevicePath, FilePath, KeyTableFile, SmallFile, StepName
from edged.config.units import KIB, H, S
from edged.config.values import NEVER, BrokerUrl, Function, Secret, Span
from edged.decode import formats
from edged.records import Cap
from edged.results.heads import table as heads
from edged.results.heads.detect import DETECTOR_NAMES

if TYPE_CHECKING:
    FormatName = str
    HeadName = str
    DetectorName = str
else:
    FormatName = Literal[tuple(formats.FORMATS)]
    HeadName = Literal[tuple(heads.HEADS)]
    DetectorName = Literal[tuple(DETECTOR_NAMES)]
RegisterTable = Literal["holding", "input", "coil", "discrete"]

__all__ = [
    "Align",
    "AnySource",
    "AskSource",
    "Batch",
    "Behaviour",
    "Broker",
    "BrokerUrl",
    "Checksum",
    "Config",
    "Decode",
    "Device",
    "Element",
    "FieldSpec",
    "Fleet",
    "Frame",
    "Function",
    "Gate",
    "Guard",
    "Health",
    "HomeAssistant",
    "Http",
    "Input",
    "Key",
    "Log",
    "MadeSource",
    "Memory",
    "ModbusSource",
    "Model",
    "MqttSource",
    "OnEnd",
    "Output",
    "OutputField",
    "Pipeline",
    "Port",
    "ProviderOptions",
    "Publish",
    "ReplaySource",
    "Secret",
    "Send",
    "SerialSource",
    "ShownEntity",
    "SimulateSource",
    "Source",
    "Span",
    "Spool",
    "Step",
    "Time",
    "UsbPort",
    "When",
    "Window",
]


class Key(msgspec.Struct, frozen=True):
    """What is said of one key. `default` is its default in words where that is not one value.

    Within a table that has a type, `only` names the types for which the key has an effect, `required` those that need it.
    """

    meaning: str
    default: str = ""
    only: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


class Several(msgspec.Struct, frozen=True):
    """Marks `T+`: a single value stands for a list of one. `at_least` is the shortest list accepted."""

    at_least: int = 0


Limit = Annotated[tuple[CapOf, ...], Several(1)]
"""Never more than each of them."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file. A string stands for a table that has only the key FIRST; the key TYPE says of which type it is.

    An empty table inside another one has no effect and is refused, unless IS_SAID_BY_EMPTY."""

    FIRST: ClassVar[str] = ""
    TYPE: ClassVar[str] = ""
    IS_SAID_BY_EMPTY: ClassVar[bool] = False


# Singles


class Device(Table, frozen=True, kw_only=True):
    """Who this device is."""

    id: Annotated[DeviceId | None, Key("the name of this device in topics, client ids and results", default="host name")] = None
    base_topic: Annotated[
        BaseTopic,
        Key("root of the topics that edged publishes about itself (status, health, model), and of the default topics of results"),
    ] = "edged/{device}"
    tags: Annotated[
        dict[str, Tag] | None,
        Key(
            ("labels of this device: edged adds them to health and results, and fills them in as `{tags.NAME}` in topics"),
            default="none",
        ),
    ] = None
    state_dir: Annotated[
        FilePath | None,
        Key(
            "the folder for what must outlive a restart: windows, model copies, the spool",
            default="systemd's `$STATE_DIRECTORY`, else `~/.local/state/edged`",
        ),
    ] = None
    workers: Annotated[
        Workers,
        Key(
            (
                "threads for models that are too slow for the loop; any of them runs any model. Where priorities of "
                "pipelines differ, one thread stays free for those above the lowest. auto: one for each core"
            ),
            default='`"auto"`',
        ),
    ] = None


class Fleet(Table, frozen=True, kw_only=True):
    """Models, and configurations, that come over MQTT: announcements that are signed, and files that are fetched beside the work.
    Off unless there is this table; needs the extra `edged[fleet]`."""

    topic: Annotated[
        Topic,
        Key(
            "the group: announcements are retained on `TOPIC/model/NAME` and `TOPIC/configuration`, and this device reports on "
            "`TOPIC/report/DEVICE`; `{device}` and `{tags.NAME}` are filled in"
        ),
    ]
    broker: Annotated[Name | None, Key("where", default="the only one")] = None
    signed_by: Annotated[
        SmallFile, Key("public Ed25519 keys (PEM, one after another); edged refuses what none of them has signed")
    ]
    from_: Annotated[
        Annotated[tuple[HttpsFolder, ...], Several(1)],
        Key("the `https://` addresses below which edged may fetch files; it follows no redirect"),
    ]
    ca: Annotated[
        SmallFile | None, Key("the authorities that may sign the certificates of these servers", default="the system's")
    ] = None
    configuration: Annotated[
        Flag,
        Key(
            "accept configurations too, which run in the place of this file. They have no `[device]`, `[fleet]`, `[http]` and "
            "`[spool]`, which stay as they are here, and name no Python file, secret, port or other file but those of this one"
        ),
    ] = False
    guard: Annotated[
        Period,
        Key("edged leaves a configuration that it applied if health has fallen after so long, or if edged ends before"),
    ] = 60 * S
    bandwidth: Annotated[Size, Key("the most bytes per second while edged fetches a file")] = 1 << 20
    max_bytes: Annotated[
        Size | None, Key("the most disk that fetched files take", default="a tenth of the free disk, at most 1GiB")
    ] = None


class Memory(Table, frozen=True, kw_only=True):
    """How much memory edged may use."""

    budget: Annotated[
        Size | None,
        Key(
            "the resident memory that edged never exceeds; a plan that does not fit does not start",
            default="a quarter of the machine's, at most 512MiB",
        ),
    ] = None
    gpu_budget: Annotated[
        Size | None,
        Key("the same for a GPU's memory; the models that may use the GPU share it", default="half of what is free"),
    ] = None


class Log(Table, frozen=True, kw_only=True):
    """What edged writes to its log, and how."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Key("the least severe line that edged writes")] = "info"
    format: Annotated[
        Literal["auto", "console", "logfmt", "json"],
        Key("auto: console on a terminal, logfmt in the journal"),
    ] = "auto"


class Http(Table, frozen=True, kw_only=True):
    """What edged shows over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz`, and a page at `/`. It changes nothing."""

    listen: Annotated[Listen | None, Key("the address to listen on; needs the extra `edged[http]`", default="off")] = None
    token: Annotated[
        SecretText | None,
        Key("the secret that a request must bring; required when `listen` is not loopback", default="none"),
    ] = None


class HomeAssistant(Table, frozen=True, kw_only=True):
    """Results in Home Assistant: edged announces them by MQTT discovery, and takes back what is no longer there."""

    discovery: Annotated[Flag, Key("announce results as entities")] = False
    prefix: Annotated[Topic, Key("Home Assistant's discovery prefix")] = "homeassistant"
    broker: Annotated[Name | None, Key("where; the results that it gets are shown", default="the only one")] = None


SPOOLING = ("offline", "always")


class Spool(Table, frozen=True, kw_only=True):
    """Results at QoS 1 on disk, so that an outage of their broker loses none."""

    TYPE = "mode"
    mode: Annotated[
        Literal["offline", "always", "off"],
        Key("when results at QoS 1 go to disk (results at QoS 0 never do); offline: only while their broker is away"),
    ] = "offline"
    path: Annotated[FilePath | None, Key("the folder of the spool", default="`spool` in `device.state_dir`", only=SPOOLING)] = (
        None
    )
    max_bytes: Annotated[
        Size | None,
        Key(
            "the most that the spool takes of the disk; `edged check` prints how long an outage that covers",
            default="a tenth of the free disk, at most 256MiB",
            only=SPOOLING,
        ),
    ] = None
    overflow: Annotated[
        Literal["drop_oldest", "drop_newest"],
        Key("which results edged drops when the spool is full; it counts them", only=SPOOLING),
    ] = "drop_oldest"
    order: Annotated[
        Literal["live_first", "strict"],
        Key("what goes first after an outage: live results before the kept ones, or all strictly in order", only=SPOOLING),
    ] = "live_first"
    replay_rate: Annotated[
        Rate | None,
        Key(
            "kept results per second that go to each broker after an outage",
            default="what live results leave free",
            only=SPOOLING,
        ),
    ] = None


class Health(Table, frozen=True, kw_only=True):
    """What edged says about itself."""

    interval: Annotated[Period, Key("how often edged publishes health")] = 10 * S
    broker: Annotated[
        Annotated[tuple[Name, ...], Several()] | None,
        Key(
            "the brokers that get health and model topics; status goes to every broker, since each holds a will",
            default="every broker",
        ),
    ] = None


# Brokers


class Broker(Table, frozen=True, kw_only=True):
    """One connection. With one broker it is everybody's; with two or more, every MQTT source and every publish names its own."""

    url: Annotated[
        Url,
        Key(
            "`mqtt://host[:1883]`, `mqtts://host[:8883]`, over websockets `ws://host[:80][/mqtt]`, `wss://host[:443][/mqtt]`, or "
            "`unix:/path`; no user or password in it"
        ),
    ]
    client_id: Annotated[
        ClientId | None,
        Key(
            "the client id, which must be unique at the broker",
            default='`"edged-{device}"`, with two or more brokers also `-NAME`',
        ),
    ] = None
    username: Annotated[Ext | None, Key("the user's name at the broker")] = None
    password: Annotated[SecretText | None, Key("the user's password")] = None
    ca: Annotated[SmallFile | None, Key("the authorities that may sign the broker's certificate", default="the system's")] = None
    cert: Annotated[SmallFile | None, Key("the client's certificate (mutual TLS); needs `key`")] = None
    key: Annotated[PrivateKey | None, Key("the key of the client's certificate, in PEM form; needs `cert`")] = None
    key_password: Annotated[SecretText | None, Key("the pass phrase of `key`")] = None
    alpn: Annotated[
        Text | None, Key("the name of the protocol in TLS, for brokers that share port 443: `x-amzn-mqtt-ca`", default="none")
    ] = None
    version: Annotated[
        Literal["auto", "5", "3.1.1"], Key("the MQTT version; auto: 5, then 3.1.1, and edged remembers what the broker accepted")
    ] = "auto"
    retain: Annotated[
        Flag,
        Key(
            "whether this broker has retained messages; false: edged sends will, status and results unretained. A "
            "broker that says so itself needs no key"
        ),
    ] = True
    keepalive: Annotated[Keepalive, Key("edged notices a dead connection within twice this time")] = 30 * S
    session_expiry: Annotated[
        Expiry,
        Key('how long the broker keeps the subscriptions and the queue of this daemon while it is away; `"0s"`: a clean session'),
    ] = 1 * H
    receive_maximum: Annotated[
        Annotated[int, integer(1, 65535)],
        Key("the most QoS 1 inputs that are unacknowledged at once: how much work this daemon takes in hand"),
    ] = 64
    max_packet: Annotated[
        Packet | None,
        Key(
            "the MQTT 5 Maximum Packet Size; under 3.1.1 edged refuses a larger packet by its length field",
            default="1MiB, or the largest `max_bytes` of its sources",
        ),
    ] = None


# Sources


class UsbPort(Table, frozen=True, kw_only=True):
    """A USB serial adapter, by its descriptors."""

    vid: Annotated[UsbId, Key("vendor id, `0x0403`")]
    pid: Annotated[UsbId, Key("product id, `0x6001`")]
    serial: Annotated[Text | None, Key("serial number", default="any")] = None


SIZED = ("fixed", "length")
PROVED = ("ubx", "mavlink", "dsmr", "vedirect")
"""Frames with a proof of their own."""


class Frame(Table, frozen=True, kw_only=True):
    """How bytes become frames."""

    FIRST = TYPE = "type"
    type: Annotated[
        Literal["line", "fixed", "length", "block", "cobs", "slip", "hdlc", "dle", "ubx", "mavlink", "dsmr", "vedirect"],
        Key(
            "lines, frames of one size, or a length field; block: lines that belong together; cobs ends by 0, slip by C0, hdlc "
            "by 7E, dle is DLE STX ... DLE ETX; the last four are proved by sums of their own. Handed on: of ubx `class id "
            "payload`, of mavlink `system component id(uint24) payload`, of block, dsmr and vedirect the lines, which csv reads "
            "as rows and text as one"
        ),
    ] = "line"
    end: Annotated[
        LineStart | None,
        Key(
            (
                "line: the terminator; edged drops a CR before it. block: the block ends with the first line that "
                'begins so; `""`: with an empty line'
            ),
            default='`"\\n"`, block: none',
            only=("line", "block"),
        ),
    ] = b"\n"
    start: Annotated[
        LineStart | None, Key("a line that begins so starts a block, and ends the one before", default="none", only=("block",))
    ] = None
    gap: Annotated[
        Period | None,
        Key(
            "a silence of this length ends a block; a block needs at least one of `end`, `start` and `gap`",
            default="none",
            only=("block",),
        ),
    ] = None
    size: Annotated[Count | None, Key("the bytes of a whole frame", only=("fixed",), required=("fixed",))] = None
    sync: Annotated[
        Marker | None,
        Key(
            "start marker; searched for again inside a bad frame. In it and in `tail` a byte may be eight characters `0`, `1` "
            'and `.` (any bit), highest first: `["1100...."]`; a marker with open bits is decoded too, one without is not. dle: '
            "`[0x10]` where any byte may follow the DLE",
            only=("line", *SIZED, "dle"),
        ),
    ] = None
    tail: Annotated[Marker | None, Key("end marker, after the checksum", only=SIZED)] = None
    length: Annotated[
        Literal["uint8", "uint16", "uint32"] | None,
        Key("the length field", only=("length",), required=("length",)),
    ] = None
    offset: Annotated[Index | None, Key("where the length field begins", default="right after `sync`", only=("length",))] = None
    counts: Annotated[
        Literal["payload", "rest", "frame"],
        Key(
            ("what the length field counts: the bytes between it and the checksum; all bytes after it; or the whole frame"),
            only=("length",),
        ),
    ] = "payload"
    extra: Annotated[
        Annotated[int, integer(-65535, 65535)],
        Key("bytes that the length field leaves out of what `counts` says (negative: that it counts too many)", only=("length",)),
    ] = 0
    endian: Annotated[Literal["little", "big"], Key("byte order of the length field", only=("length",))] = "little"
    crc_extra: Annotated[
        dict[str, Byte] | None,
        Key(
            "CRC_EXTRA of each message that is wanted, by its id: `{ 30 = 39 }`; others are passed over by their length and "
            "count as `other`",
            only=("mavlink",),
            required=("mavlink",),
        ),
    ] = None


ONE_BYTE = ("sum8", "neg8", "inv8", "xor8")
MANY_BYTES = (
    *(
        "sum15",
        "sum16",
        "neg16",
        "inv16",
        "crc16",
        "crc16-arc",
        "crc16-ccitt-false",
        "crc16-kermit",
        "crc16-mcrf4xx",
        "crc16-modbus",
    ),
    *("crc16-x25", "crc16-xmodem", "crc32"),
)
BINARY_CHECKSUMS = (*ONE_BYTE, "fletcher8", "crc8", *MANY_BYTES)


class Checksum(Table, frozen=True, kw_only=True):
    """The last bytes of a frame (of a line: `*hh` for nmea, the check character for teleinfo, or hex digits)."""

    FIRST = TYPE = "type"
    type: Annotated[
        Literal[
            "none",
            "nmea",
            "teleinfo",
            "sum8",
            "neg8",
            "inv8",
            "xor8",
            "sum15",
            "sum16",
            "neg16",
            "inv16",
            "fletcher8",
            "crc8",
            "crc16",
            "crc16-arc",
            "crc16-ccitt-false",
            "crc16-kermit",
            "crc16-mcrf4xx",
            "crc16-modbus",
            "crc16-x25",
            "crc16-xmodem",
            "crc32",
        ],
        Key(
            "which checksum a frame carries. neg8, neg16: what makes the sum 0; inv8, inv16: all bits of the sum turned over; "
            "CRCs by their names in the catalog"
        ),
    ] = "none"
    start: Annotated[Index, Key("the first byte that the checksum covers; 0: the sync bytes too", only=BINARY_CHECKSUMS)] = 0
    endian: Annotated[
        Literal["little", "big"] | None,
        Key("the byte order of the checksum", default="sums and hex digits: big; CRCs: the standard's", only=MANY_BYTES),
    ] = None
    stop: Annotated[
        Index, Key("so many bytes right before it are not covered: 1 for an ETX that stands there", only=BINARY_CHECKSUMS)
    ] = 0
    encoding: Annotated[
        Literal["hex", "all-hex"] | None,
        Key(
            "hex: written in hex digits, as it must be at the end of a line; all-hex: what it covers is too, and it is that of "
            "the bytes which those digits say (Modbus ASCII, RFID readers)",
            default="bytes",
            only=BINARY_CHECKSUMS,
        ),
    ] = None
    poly: Annotated[
        Annotated[int, integer(1, 0xFFFF)] | None,
        Key(
            "the polynomial without its highest bit, such as 0x1021",
            default="crc8: 0x07",
            only=("crc8", "crc16"),
            required=("crc16",),
        ),
    ] = None
    init: Annotated[Annotated[int, integer(0, 0xFFFF)], Key("the initial value", only=("crc8", "crc16"))] = 0
    xor: Annotated[
        Annotated[int, integer(0, 0xFFFF)], Key("the value that is exclusive-ored to the result", only=("crc8", "crc16"))
    ] = 0
    reflect: Annotated[Flag, Key("whether the lowest bit comes first", only=("crc8", "crc16"))] = False


class Element(Table, frozen=True, kw_only=True):
    """One number on the wire, or in a line."""

    FIRST = "name"
    name: Annotated[
        FieldName,
        Key('what the field is called; `"_"` skips one. Fields named by `time` or `key` are not values for the model'),
    ]
    base: Annotated[Literal[10, 16], Key("16: hexadecimal, `1F` or `0x1F`: csv, text, struct with dtype text")] = 10
    dtype: Annotated[
        WireType | None,
        Key(
            "element type: struct, raw, modbus; `text`: ASCII of `size` bytes, a number where one is wanted; `uint11` with "
            "`shape = 16`: numbers of so many bits side by side, the lowest first if little; json, msgpack, cbor: `text`, for "
            "inputs of a model that take strings",
            default="struct: required, raw: float32, modbus: uint16, of a bit bool",
        ),
    ] = None
    size: Annotated[
        Count | None,
        Key(
            "of a field of dtype text the bytes: struct; or the most characters: json, msgpack, cbor",
            default="struct: required for dtype text, else 64",
        ),
    ] = None
    endian: Annotated[ByteOrder | None, Key("byte order of this field: struct, modbus", default="that of `decode`")] = None
    bits: Annotated[Bits | None, Key("these bits of the number, the lowest is 0: struct, modbus", default="all")] = None
    scale: Annotated[Factor, Key("value = raw x scale + offset")] = 1.0
    offset: Annotated[Number, Key("value = raw x scale + offset")] = 0.0
    unit: Annotated[
        Text | None,
        Key(
            "the unit, for people: health shows it. edged compares it with the manifest's and with that of a dsmr "
            "telegram, and never converts"
        ),
    ] = None
    valid: Annotated[
        Range | None, Key("the possible range, after scaling; a value outside is bad (`on_bad`)", default="any finite")
    ] = None
    values: Annotated[
        dict[str, Number] | None,
        Key(
            "numbers for texts: `{ open = 1, closed = 0 }`; true and false are 1 and 0 by themselves, and a text that is a "
            "number is that number: csv, text, json, msgpack, cbor, senml, influx, dsmr, vedirect, struct with dtype text"
        ),
    ] = None
    absent: Annotated[
        Absent | None,
        Key(
            "what a message that does not have it at all gets: `drop`, `hold` (the last value, not marked `degraded`; before the "
            "first the message is `incomplete`), or a number. null, NaN and texts are not absent but bad; struct: bytes cut off "
            "at the end: not for raw, modbus, image",
            default="as `on_bad` says; senml and fields that messages name: `hold`",
        ),
    ] = None
    shape: Annotated[
        Annotated[tuple[Count, ...], Several()],
        Key("the shape of a field that is a tensor: `[64]`", default="scalar"),
    ] = ()


class FieldSpec(Element, frozen=True, kw_only=True):
    """One value of a sample. What it does not set itself, `decode` sets for it."""

    path: Annotated[
        FieldPath,
        Key(
            "where it stands in the message: json, msgpack, cbor, senml, influx, and around `payload`. `a.b`, `rows.0.v`, `.` "
            "the whole, `^.a` from the root of the message on (with `rows`, `payload`), `list[id=T1].v` the element whose member "
            "equals, `list[=driveway]` the element that equals; dsmr: its OBIS code, vedirect: its label",
            default="`name`",
        ),
    ] = ()
    after: Annotated[
        Label | None,
        Key(
            "the label that stands before it, then any of `:`, `=` and blanks; no letter or digit stands before the label; "
            '`""`: the first number of the line: text without `pattern`',
            default="`name`",
        ),
    ] = None
    register: Annotated[
        Register | None, Key("the register's address on the wire, from 0: modbus", default="required for modbus")
    ] = None
    table: Annotated[RegisterTable | None, Key("which registers: modbus", default="that of `decode`")] = None
    repeat: Annotated[
        Count | None, Key("`fields` of it so many times over, each a tensor of that many: struct", default="once")
    ] = None
    fields: Annotated[
        Annotated[tuple[Element, ...], Several(1)],
        Key("what is repeated; `name` is then that of the group, for `rows`: struct", default="none"),
    ] = ()


class Time(Table, frozen=True, kw_only=True):
    """Where a sample says when it was taken."""

    FIRST = "format"
    field: Annotated[
        FieldName | None, Key("the field that holds the time", default="the one that the format has; required where it has none")
    ] = None
    format: Annotated[
        Literal[
            "rfc3339",
            "iso8601",
            "unix_s",
            "unix_ms",
            "unix_us",
            "unix_ns",
            "elapsed_s",
            "elapsed_ms",
            "elapsed_us",
            "dsmr",
            "arrival",
        ],
        Key(
            "how it is written; iso8601: with or without a zone, a `T` or a blank, `+0100`, a comma fraction, `2026/01/31`; "
            "elapsed: since the sensor started (`millis()`), anchored at the first sample; dsmr: `YYMMDDhhmmss` with W or S for "
            "winter and summer, of a telegram that of `0-0:1.0.0` or of the code that `field` says (a gas meter's); arrival: "
            "when it came, whatever the payload says"
        ),
    ]
    zone: Annotated[
        Zone | None,
        Key(
            "of times that do not say theirs: `local` `utc` or such as `+02:00`: iso8601; of dsmr that of winter",
            default='iso8601: `"local"`, dsmr: `"+01:00"`',
        ),
    ] = None


class Decode(Table, frozen=True, kw_only=True):
    """How bytes become named values."""

    TYPE = "format"
    format: Annotated[
        FormatName,
        Key(
            "how a payload or frame is written; text: values behind labels (`after`), or by `pattern`; cbor needs `edged[cbor]`; "
            'senml: RFC 8428, fields by `n`, or with `key = "n"` each record; influx: line protocol, fields `X`, `tags.X`; '
            "nmea: `lat lon alt speed track climb hdop satellites depth heading mheading pitch roll rot temp xdr.NAME` in SI "
            "units and degrees, one sample an epoch; ubx: the same of NAV-PVT; dsmr: OBIS codes (P1, IEC 62056-21 mode D), "
            "vedirect: labels; these four bring their frame and checksum; "
            "wav: sound, a row a frame, a column a channel, full scale is 1, and its header's rate must be `rate`; "
            "image: a JPEG, PNG or WebP, turned as its EXIF data says, needs `edged[image]`"
        ),
    ]
    fields: Annotated[
        Annotated[tuple[FieldSpec, ...], Several(1)],
        Key(
            "the values, in the order the model gets them. csv: columns; json, msgpack, cbor: paths; struct: in wire order; "
            'text: in any order; raw: one row after another; image: what the picture is called. `"_"` skips',
            default='raw, wav: `"value"`, image: `"image"`, text: the groups of `pattern`, else required',
            required=tuple(name for name, kind in formats.FORMATS.items() if not kind.default_field and not kind.is_by_pattern),
        ),
    ] = ()
    payload: Annotated[
        FieldPath | None,
        Key(
            "the member that holds what is decoded; around it is JSON, or what `pattern` says. `time`, `key`, `where`, `carry` "
            "and fields with a `path` "
            "(of formats that have paths: from `^` on) are read from around it. Where messages name their fields: the value",
            default="the whole",
            only=formats.with_key("payload"),
        ),
    ] = None
    encoding: Annotated[
        Literal["base64", "hex"] | None,
        Key(
            "how bytes are written as text; edged ignores blanks, and reads base64 also from a data URL",
            default="as they are",
            only=formats.with_key("encoding"),
        ),
    ] = None
    compress: Annotated[
        Literal["gzip", "zlib", "zstd"] | None,
        Key(
            "how the payload is compressed; what it opens to must fit into `max_bytes`",
            default="none",
            only=formats.with_key("compress"),
        ),
    ] = None
    rows: Annotated[
        FieldPath | None,
        Key(
            "an array each element of which is a sample, with its own time, key and `where`; `.`: the payload itself. Paths are "
            "those of an element, from `^` on those of the message. Several documents, one a line, need no key. struct: `.`: "
            "record after record, or the name of a group (`repeat`)",
            default="a message is a sample",
            only=formats.with_key("rows"),
        ),
    ] = None
    named_by: Annotated[
        FieldPath | None,
        Key(
            "the member that names the field whose value stands in `payload`, as `{field}` in a topic does. Values are held; "
            "with `rows`, elements of one time make one sample",
            default="none",
            only=formats.with_key("named_by"),
        ),
    ] = None
    absent: Annotated[Absent | None, Key("the default for fields that do not set their own", only=formats.with_key("absent"))] = (
        None
    )
    time: Annotated[
        Time | None,
        Key(
            "when a sample was taken",
            default="as senml and influx say, else on arrival: samples of one read or message are spread back at `rate`",
            only=formats.with_key("time"),
        ),
    ] = None
    header: Annotated[
        Flag, Key("the first line names the columns, and `fields` picks them by name", only=formats.with_key("header"))
    ] = False
    separator: Annotated[
        Text,
        Key(
            ('what stands between two columns; `" "`: any number of blanks or tabs. A cell may stand in double quotes'),
            only=formats.with_key("separator"),
        ),
    ] = ","
    pattern: Annotated[
        Pattern | None,
        Key(
            "a regular expression with named groups, `(?P<kg>[+-] *[\\d.]+)kg`, searched once in each line; what it does "
            "not match counts as `other`. Of other formats than text: what stands around `payload`, one of its groups",
            default="text: `after` of each field",
            only=formats.with_key("pattern"),
        ),
    ] = None
    decimal: Annotated[Literal[".", ","], Key("the decimal point of numbers", only=formats.with_key("decimal"))] = "."
    base: Annotated[
        Literal[10, 16] | None,
        Key("the default for fields that do not set their own", only=formats.with_key("base")),
    ] = None
    endian: Annotated[
        ByteOrder,
        Key(
            "byte order, as meters name it: big is abcd, little dcba; cdab: words swapped",
            default='`"little"`, modbus: `"big"`',
            only=formats.with_key("endian"),
        ),
    ] = "little"
    table: Annotated[
        RegisterTable | None,
        Key("the default for fields that do not set their own", default='`"holding"`', only=formats.with_key("table")),
    ] = None
    rest: Annotated[
        Literal["refuse", "skip"], Key("what to do with bytes behind the last field", only=formats.with_key("rest"))
    ] = "refuse"
    max_pixels: Annotated[
        Count,
        Key(
            "a larger picture is refused by its header, before it is decoded",
            default="4194304",
            only=formats.with_key("max_pixels"),
        ),
    ] = 4 * 1024 * 1024
    color: Annotated[
        Literal["rgb", "bgr", "gray"] | None,
        Key(
            "the order of the colors",
            default='the model\'s, where `model.toml` says it, else `"rgb"`',
            only=formats.with_key("color"),
        ),
    ] = None
    dtype: Annotated[WireType | None, Key("the default for fields that do not set their own", only=formats.with_key("dtype"))] = (
        None
    )
    scale: Annotated[Factor | None, Key("the default for fields that do not set their own", only=formats.with_key("scale"))] = (
        None
    )
    offset: Annotated[Number | None, Key("the default for fields that do not set their own", only=formats.with_key("offset"))] = (
        None
    )
    unit: Annotated[Text | None, Key("the default for fields that do not set their own", only=formats.with_key("unit"))] = None
    valid: Annotated[Range | None, Key("the default for fields that do not set their own", only=formats.with_key("valid"))] = None
    shape: Annotated[
        Annotated[tuple[Count, ...], Several()] | None,
        Key("the default for fields that do not set their own", only=formats.with_key("shape")),
    ] = None


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
    max_bytes: Annotated[Packet, Key("of the payload, at most 4 KiB; of frames of a port the first 64 bytes are there")] = 4 * KIB


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
                "All other messages count as `other`, without a line in the log. What it names is no input of the "
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
    AnySource = Source  # of any kind in the table of `sources.kinds`


# Models


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
        Period, Key(REMOTE + "after 5 failures in a row nothing is asked for so long; then one request tries")
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


# Pipelines


class Window(Table, frozen=True, kw_only=True):
    """The newest samples of a key, as one input of the model."""

    size: Annotated[Samples, Key("newest samples in one run; a duration becomes samples by `rate`")]
    hop: Annotated[Samples | None, Key("new samples between two runs", default="`size`")] = None
    gap: Annotated[
        Period | None,
        Key(
            "a longer silence of a key starts its window over",
            default="3 periods (stamped on arrival: at least 1s); without `rate` none",
        ),
    ] = None


class Align(Table, frozen=True, kw_only=True):
    """How several streams become one. Equal keys are joined; an unkeyed stream joins to all."""

    to: Annotated[Name | None, Key("one row for each sample of this stream", default="the first source")] = None
    rate: Annotated[
        Rate | None,
        Key("instead of `to`: rows on a regular grid; also right for a single irregular source"),
    ] = None
    method: Annotated[
        Literal["previous", "nearest", "linear"],
        Key("which value the other streams give; nearest and linear wait for their next sample, at most `tolerance`"),
    ] = "previous"
    tolerance: Annotated[
        Period | None,
        Key(
            "the largest distance in time; an older value is bad (`on_bad` of its source)",
            default="`stale_after` of the joined source; required if that is `never`, or neither set nor told by `rate`",
        ),
    ] = None


class Input(Table, frozen=True, kw_only=True):
    """What goes into one input of the model. A model of one input needs none of this."""

    fields: Annotated[
        Annotated[tuple[FieldName, ...], Several(1)] | None,
        Key("the fields, in the order the model gets them", default="all, in order"),
    ] = None
    size: Annotated[Count | None, Key("how many of the newest rows; 1: the latest values", default="the window's")] = None
    layout: Annotated[
        Literal["time,field", "field,time", "hwc", "chw"] | None,
        Key(
            "which axis is time; for pictures: height, width, color, or color, height, width",
            default="the one that fits; required if both do",
        ),
    ] = None
    value: Annotated[Constant, Key("a constant instead of fields")] = None
    template: Annotated[
        Text | None,
        Key(
            "of the input `prompt` of an openai model: a text with names in braces: captures of the topic, fields, and fields of "
            "another pipeline's newest result of the same key, `{look.count}`"
        ),
    ] = None


STFT = ("spectrogram", "log_mel")


class Step(Table, frozen=True, kw_only=True):
    """One step before the model: array in, array out."""

    FIRST = TYPE = "step"
    step: Annotated[StepName, Key("what to do")]
    mean: Annotated[Numbers | None, Key("(x - mean) / std; with `std`", only=("normalize",))] = None
    std: Annotated[Numbers | None, Key("(x - mean) / std; with `mean`", only=("normalize",))] = None
    min: Annotated[Numbers | None, Key("(x - min) / (max - min); with `max`", only=("normalize",))] = None
    max: Annotated[Numbers | None, Key("(x - min) / (max - min); with `min`", only=("normalize",))] = None
    size: Annotated[
        PictureSize | None,
        Key("width and height that every picture is brought to: `[640, 640]`", only=("resize",), required=("resize",)),
    ] = None
    fit: Annotated[
        Literal["letterbox", "stretch", "crop"],
        Key(
            (
                "letterbox: in proportion, with gray around it; crop: in proportion, the excess cut off; stretch: out "
                "of proportion"
            ),
            only=("resize",),
        ),
    ] = "letterbox"
    n_fft: Annotated[Count, Key("librosa's: samples of one spectrum", only=STFT)] = 2048
    hop_length: Annotated[
        Count | None, Key("librosa's: samples from one spectrum to the next", default="a quarter of `win_length`", only=STFT)
    ] = None
    win_length: Annotated[Count | None, Key("librosa's: samples that the window leaves", default="`n_fft`", only=STFT)] = None
    center: Annotated[
        Flag, Key("librosa's: frames are centered, with zeros before and after the samples; false: whole ones alone", only=STFT)
    ] = True
    power: Annotated[Positive, Key("librosa's: 2 is power, 1 is amplitude", only=STFT)] = 2.0
    window: Annotated[
        Literal["hann", "hamming", "blackman", "boxcar"], Key("scipy's: what a spectrum is weighted with", only=(*STFT, "bands"))
    ] = "hann"
    sr: Annotated[Rate | None, Key("librosa's: samples per second", default="`rate` of the source", only=("log_mel",))] = None
    n_mels: Annotated[Annotated[int, integer(1, 4096)], Key("librosa's: mel bands", only=("log_mel",))] = 128
    fmin: Annotated[NotNegative, Key("librosa's: lowest frequency, Hz", only=("log_mel",))] = 0.0
    fmax: Annotated[Positive | None, Key("librosa's: highest frequency, Hz", default="half of `sr`", only=("log_mel",))] = None
    htk: Annotated[Flag, Key("librosa's: the mel scale of HTK instead of Slaney's", only=("log_mel",))] = False
    norm: Annotated[
        Literal["slaney", "none"], Key("librosa's: slaney: each band has the area 1; none: the height 1", only=("log_mel",))
    ] = "slaney"
    ref: Annotated[
        Reference, Key("librosa's: the power that is 0 dB; `max`: the largest of each window, as `ref=np.max`", only=("log_mel",))
    ] = 1.0
    amin: Annotated[Positive, Key("librosa's: the least power", only=("log_mel",))] = 1e-10
    top_db: Annotated[Positive, Key("librosa's: nothing is further below the loudest of a window, dB", only=("log_mel",))] = 80.0
    log_offset: Annotated[
        Positive | None,
        Key("ln(mel + log_offset) in the place of decibels, as of VGGish (0.01) and YAMNet (0.001)", only=("log_mel",)),
    ] = None
    edges: Annotated[
        Edges | None,
        Key("Hz: `[1, 4, 8, 13]` is three bands; the power in each, by scipy's `welch`", only=("bands",), required=("bands",)),
    ] = None
    fs: Annotated[Rate | None, Key("scipy's: samples per second", default="`rate` of the source", only=("bands",))] = None
    nperseg: Annotated[Count | None, Key("scipy's: samples of a segment", default="256, at most the window", only=("bands",))] = (
        None
    )
    noverlap: Annotated[
        Index | None, Key("scipy's: samples that two segments share", default="half of `nperseg`", only=("bands",))
    ] = None


class OutputField(Table, frozen=True, kw_only=True):
    """One value of a regression."""

    FIRST = "name"
    name: Annotated[FieldName, Key("what the value is called in the result")]
    scale: Annotated[Factor, Key("value = raw x scale + offset")] = 1.0
    offset: Annotated[Number, Key("value = raw x scale + offset")] = 0.0
    unit: Annotated[Text | None, Key("the unit, for people: health shows it")] = None


class Output(Table, frozen=True, kw_only=True):
    """What the model's numbers mean."""

    FIRST = TYPE = "type"
    type: Annotated[
        HeadName,
        Key("what a result holds. " + "; ".join(f"{name}: {kind.holds}" for name, kind in heads.HEADS.items())),
    ] = "raw"
    tensor: Annotated[
        Annotated[tuple[FieldName, ...], Several(1)] | None,
        Key("which output of the model", default="the only one; raw: all"),
    ] = None
    softmax: Annotated[
        Flag | None,
        Key(
            "whether to make probabilities of the values",
            default="if the values are not probabilities",
            only=heads.with_key("softmax"),
        ),
    ] = None
    top: Annotated[Count, Key("how many labels `scores` has: the best", only=heads.with_key("top"))] = 5
    fields: Annotated[
        Annotated[tuple[OutputField, ...], Several(1)] | None,
        Key("names for the values, in order", default="by number", only=heads.with_key("fields")),
    ] = None
    error: Annotated[
        Literal["mae", "mse"] | None,
        Key("the model reconstructs its input: the error is the score", only=heads.with_key("error")),
    ] = None
    above: Annotated[
        Number | None,
        Key(
            "anomaly: the threshold, a higher score is abnormal; detect: the least score",
            default="detect: 0.25",
            only=heads.with_key("above"),
        ),
    ] = None
    below: Annotated[Number | None, Key("the threshold: a lower score is abnormal", only=heads.with_key("below"))] = None
    release: Annotated[
        Number | None, Key("the score at which it is normal again", default="the threshold", only=heads.with_key("release"))
    ] = None
    latch: Annotated[
        Latch,
        Key(
            "once abnormal, a key stays so until it is acknowledged: `true`: by `edged ack`; a topic: also by a message there on "
            "the brokers of its results, whose payload is the key, or empty for all. What was acknowledged ends when the score "
            "is back to normal. An alarm outlives a restart",
            only=heads.with_key("latch"),
        ),
    ] = False
    iou: Annotated[
        Share,
        Key(
            "of two boxes of one label that overlap more (intersection over union) the better one stays",
            only=heads.with_key("iou"),
        ),
    ] = 0.45
    max: Annotated[Count, Key("the most detections in a result: the best", only=heads.with_key("max"))] = 100
    head: Annotated[
        DetectorName,
        Key("how boxes lie in the outputs; auto: as metadata and shapes tell", only=heads.with_key("head")),
    ] = "auto"
    masks: Annotated[
        Literal["polygon", "rle"] | None,
        Key(
            "masks in the result: an outline in pixels of the picture, or COCO's runs on the model's own grid over it",
            only=heads.with_key("masks"),
        ),
    ] = None
    label: Annotated[
        Annotated[tuple[Text, ...], Several(1)] | None,
        Key("only detections of these", default="all", only=heads.with_key("label")),
    ] = None
    charset: Annotated[
        Charset | None,
        Key(
            "what the classes of a CTC head write, without the blank; a path is a file with one a line",
            default="the metadata's `character`",
            only=heads.with_key("charset"),
        ),
    ] = None
    blank: Annotated[Annotated[int, integer(0, 1 << 20)], Key("the class that writes nothing", only=heads.with_key("blank"))] = 0
    smooth: Annotated[
        Count,
        Key("the result is the mean of the last n results of the key", only=heads.with_key("smooth")),
    ] = 1


UNSAID = Output()
"""The output of a pipeline that says nothing of it."""


class When(Table, frozen=True, kw_only=True):
    """Which results edged sends. It counts what it holds back as `filtered`. All conditions given must hold."""

    change: Annotated[
        DeadBand,
        Key(
            "it differs from what this entry last published for the key; a number is a dead band",
            default="off",
        ),
    ] = None
    of: Annotated[
        FieldName | None,
        Key(
            "which field of the result; alone: the field is true",
            default="classify: `label` for change, `score` for above and below; anomaly: `anomaly`, `score`; "
            "detect: `count`, `score`; regress: the first value; raw: none",
        ),
    ] = None
    above: Annotated[Number | None, Key("the field is greater")] = None
    below: Annotated[Number | None, Key("the field is less")] = None
    label: Annotated[Annotated[tuple[Text, ...], Several(1)] | None, Key("the field is one of these")] = None
    min_interval: Annotated[
        Period | None,
        Key(
            "at most one result in this time. edged keeps the newest one that it held back (one for each key) and "
            "sends it when the time is over, if the conditions still hold, and at a stop; at QoS 1 it keeps it "
            "in the spool, so that a crash does not lose it"
        ),
    ] = None
    max_interval: Annotated[
        Period | None,
        Key("at least one result in this time while results come: the newest, whether or not the conditions hold"),
    ] = None


class Gate(Table, frozen=True, kw_only=True):
    """The pipeline runs only while another stream says so, key by key. edged counts what it does not run as `gated`. All
    conditions must hold."""

    source: Annotated[
        Name,
        Key("the stream that is judged: a source, or a pipeline by its results"),
    ]
    of: Annotated[
        FieldName | None,
        Key(
            "which field of it; alone: the field is true",
            default="required for a source; classify: `score`; anomaly: `score`; detect: `score`; regress: the first value",
        ),
    ] = None
    above: Annotated[Number | None, Key("the field is greater")] = None
    below: Annotated[Number | None, Key("the field is less")] = None
    label: Annotated[Annotated[tuple[Text, ...], Several(1)] | None, Key("the field is one of these")] = None
    change: Annotated[
        DeadBand,
        Key("the field differs from the result of the key before; a number is a dead band; of a pipeline", default="off"),
    ] = None
    hold: Annotated[Duration, Key("how long the gate stays open after the conditions last held", default='`"0s"`')] = 0


class ShownEntity(Table, frozen=True, kw_only=True):
    """How Home Assistant shows the results of this entry."""

    name: Annotated[Text | None, Key("the name that people see", default="the pipeline's")] = None
    device_class: Annotated[
        Text | None,
        Key(
            "Home Assistant's: of a sensor or, for anomaly, of a binary_sensor",
            default="`problem` for anomaly; by the unit, where that can mean one thing only",
        ),
    ] = None
    icon: Annotated[Text | None, Key('such as `"mdi:pump"`', default="none")] = None


class Unsure(Table, frozen=True, kw_only=True):
    """Which results say that the model was unsure, or that their input is worth a look. All conditions must hold."""

    of: Annotated[
        FieldName | None,
        Key(
            "which field of the result; alone: the field is true",
            default="classify: `score`; anomaly: `score`; detect: `score`; regress: the first value",
        ),
    ] = None
    above: Annotated[Number | None, Key("the field is greater")] = None
    below: Annotated[Number | None, Key("the field is less")] = None
    label: Annotated[Annotated[tuple[Text, ...], Several(1)] | None, Key("the field is one of these")] = None


class HardSamples(Table, frozen=True, kw_only=True):
    """Inputs that are worth a look, as recordings: kept on disk (`max_bytes`) or published (`topic`)."""

    when: Annotated[Unsure | None, Key("those whose results say so", default="none")] = None
    limit: Annotated[
        Annotated[tuple[CapOf, ...], Several(1)],
        Key('never more of those than this, such as `["6/h", "50/d"]`; others are counted', default='`"6/h"`'),
    ] = (Cap(6, H),)
    audit: Annotated[
        CapOf | None, Key("so many besides, on average, at random moments, whatever their results say", default="none")
    ] = None
    topic: Annotated[
        Topic | None,
        Key(
            "publish them there, at QoS 1, each message a recording; they are not kept while the broker is away. May hold "
            "`{device}`, `{base_topic}`, `{tags.NAME}` and `{pipeline}`"
        ),
    ] = None
    broker: Annotated[Name | None, Key("where `topic` and `labels` are", default="the only one")] = None
    max_bytes: Annotated[
        Size | None,
        Key("keep them in `device.state_dir/samples/PIPELINE`, at most so many bytes: the oldest go, those with a label last"),
    ] = None
    labels: Annotated[
        Filter | None,
        Key(
            "messages there say what the result of a kept sample should have been: "
            '`{"run": "...", "seq": 17, "label": "..."}`, with `run` and `seq` of the result'
        ),
    ] = None


class Publish(Table, frozen=True, kw_only=True):
    """Where results go, and which."""

    FIRST = "topic"
    IS_SAID_BY_EMPTY = True
    topic: Annotated[
        Topic | None,
        Key(
            "with a keyed source it must hold `{key}` or all captures",
            default='`"{base_topic}/{pipeline}"`, keyed: `"/{key}"` added',
        ),
    ] = None
    broker: Annotated[Name | None, Key("the broker to publish at", default="the only one")] = None
    qos: Annotated[Literal[0, 1], Key("1: the broker gets it at least once")] = 1
    retain: Annotated[Flag, Key("whether the broker keeps the last one for those who subscribe later")] = False
    format: Annotated[
        Literal["json", "msgpack", "cbor", "raw", "text"],
        Key("raw: the numbers of one field, little-endian, in the model's type, else float32; text: the bare value of one field"),
    ] = "json"
    fields: Annotated[
        Annotated[tuple[FieldName, ...], Several(1)] | None,
        Key("the fields of the result to send", default="all"),
    ] = None
    when: Annotated[When, Key("which results are sent", default="all")] = When()
    homeassistant: Annotated[
        Flag | ShownEntity | None,
        Key(
            "`false`: this entry makes no entity; `true`, or a table: this one does and no other of the pipeline",
            default="with `[homeassistant]` the first entry that it can read",
        ),
    ] = None


class Pipeline(Table, frozen=True, kw_only=True):
    """The path from streams through a model to topics."""

    source: Annotated[
        Annotated[tuple[Name, ...], Several(1)],
        Key("one stream, or several that `align` joins; the first sets the pace"),
    ]
    model: Annotated[
        Name | None,
        Key("the model; without one the samples or windows themselves are the result (`outputs`)"),
    ] = None
    output: Annotated[
        Output, Key("what the model's numbers mean", default="as the model's metadata say (Ultralytics' `task`), else `\"raw\"`")
    ] = UNSAID
    publish: Annotated[
        Annotated[tuple[Publish, ...], Several()],
        Key("where results go; `[]`: nowhere (a step of a chain)", default="one, all defaults"),
    ] = (Publish(),)
    preprocess: Annotated[
        Annotated[tuple[Step, ...], Several()] | None,
        Key(
            "steps before the model, in order",
            default="the manifest's normalization; of pictures also `resize` to what the metadata say (Ultralytics' `imgsz`)",
        ),
    ] = None
    postprocess: Annotated[
        Annotated[tuple[Custom, ...], Several()],
        Key("steps after the model: outputs in, outputs out", default="none"),
    ] = ()
    slots: Annotated[
        Count | None,
        Key(
            "how many windows may wait for the model: the limit of the queue",
            default="the most of: 2 x `batch.max`; `max_keys` if keyed; what fits in 1 MiB, up to 256",
        ),
    ] = None
    overflow: Annotated[
        Literal["drop_oldest", "drop_newest", "latest_only", "block"] | None,
        Key(
            (
                "what edged drops when all slots are taken; latest_only: only the newest of each key waits; block: "
                "withhold acknowledgments, so that the broker keeps the rest (MQTT at QoS 1), or stop reading the "
                "port; not for MQTT at QoS 0"
            ),
            default='`"block"` if all sources are MQTT at QoS 1 or replay at speed 0, else `"drop_oldest"`',
        ),
    ] = None
    deadline: Annotated[
        Period | None,
        Key(
            "edged drops a result that is older when it is made (counted from the arrival of its newest sample), "
            "as `expired`, and does not run what would be"
        ),
    ] = None
    priority: Annotated[
        Annotated[int, integer(-1000, 1000)],
        Key("of pipelines that share a model the higher runs first, equal ones take turns; when memory is short it is shed last"),
    ] = 0
    gate: Annotated[
        Gate | None,
        Key(
            (
                "run only while another stream says so, key by key: by the same sample where both start from one "
                "source, otherwise by the newest that is not after it; closed while nothing is known, and while that "
                "stream is stale"
            ),
            default="none",
        ),
    ] = None
    samples: Annotated[
        HardSamples | None,
        Key("inputs that the model was unsure of, and a random share, kept or published to be labelled", default="none"),
    ] = None
    window: Annotated[Window | None, Key("samples of one run", default="none: each sample by itself")] = None
    align: Annotated[Align | None, Key("how several streams become one", default="to the first source")] = None
    inputs: Annotated[
        dict[str, Input],
        Key("what goes into which input of the model", default="all fields into the only input"),
    ] = msgspec.field(default_factory=dict)


class OnEnd(Table, frozen=True, kw_only=True):
    """What edged does when a behaviour ends or fails: a message, or bytes on a port."""

    topic: Annotated[Topic | None, Key("the topic that gets `value`; it may hold `{key}`")] = None
    value: Annotated[Anything, Key("the message: text as it is, all else as JSON", default="none")] = None
    retain: Annotated[Flag, Key("whether the broker keeps it")] = False
    write: Annotated[Name | None, Key("the port that gets `data`")] = None
    data: Annotated[PlainBytes | None, Key("the bytes to write", default="none")] = None


class Behaviour(Table, frozen=True, kw_only=True):
    """A coroutine of your own, `async def guard(me)`, on the loop of the daemon. What it may touch stands here."""

    run: Annotated[Custom, Key("the coroutine")]
    per: Annotated[Literal["key"] | None, Key("one instance for each key", default="one instance")] = None
    source: Annotated[
        Annotated[tuple[Name, ...], Several()],
        Key("sources and pipelines for `me.samples`, `me.results` and `me.latest`", default="none"),
    ] = ()
    ask: Annotated[Annotated[tuple[Name, ...], Several()], Key("pipelines for `me.ask`", default="none")] = ()
    publish: Annotated[
        Annotated[tuple[Topic, ...], Several()], Key("topics for `me.publish`; `+`, `#` and `{key}` are allowed", default="none")
    ] = ()
    broker: Annotated[Name | None, Key("where it publishes", default="the only one")] = None
    write: Annotated[
        Annotated[tuple[Name, ...], Several()], Key("`[port.NAME]` tables and serial sources for `me.write`", default="none")
    ] = ()
    limit: Annotated[
        Limit,
        Key(
            (
                'the most messages of an instance, such as `["10/s", "500/d"]`; edged drops and counts the rest. It '
                "never holds back writes and `on_end`"
            ),
            default='`"10/s"`',
        ),
    ] = (Cap(10, S),)
    inbox: Annotated[Annotated[int, integer(1, 65536)], Key("how many results or samples of a stream wait for an instance")] = 64
    overflow: Annotated[
        Literal["drop_oldest", "latest_only"],
        Key("what edged drops when so many wait; latest_only: only the newest of each key waits"),
    ] = "drop_oldest"
    on_end: Annotated[
        Annotated[tuple[OnEnd, ...], Several()],
        Key("what to do when an instance ends or fails, and when edged stops", default="nothing"),
    ] = ()


class Config(Table, frozen=True, kw_only=True):
    """The whole file."""

    device: Annotated[Device, Key("who this device is")] = Device()
    memory: Annotated[Memory, Key("how much memory edged may use")] = Memory()
    log: Annotated[Log, Key("what is written, and how")] = Log()
    spool: Annotated[Spool, Key("results on disk while their broker is away")] = Spool()
    health: Annotated[Health, Key("what edged says about itself")] = Health()
    http: Annotated[Http, Key("what edged shows over HTTP")] = Http()
    homeassistant: Annotated[HomeAssistant, Key("results in Home Assistant")] = HomeAssistant()
    fleet: Annotated[Fleet | None, Key("models that come over MQTT", default="off")] = None
    broker: Annotated[dict[str, Broker], Key("connections")] = msgspec.field(default_factory=dict)
    port: Annotated[dict[str, Port], Key("serial ports that several sources share")] = msgspec.field(default_factory=dict)
    source: Annotated[dict[str, AnySource], Key("streams of samples")] = msgspec.field(default_factory=dict)
    model: Annotated[dict[str, Model], Key("models")] = msgspec.field(default_factory=dict)
    pipeline: Annotated[dict[str, Pipeline], Key("streams to a model to topics")] = msgspec.field(default_factory=dict)
    behaviour: Annotated[dict[str, Behaviour], Key("coroutines of your own")] = msgspec.field(default_factory=dict)
