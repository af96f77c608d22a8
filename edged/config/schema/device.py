"""The device, and what a file has once: `[device]`, `[memory]`, `[log]`, `[http]`, `[spool]`, `[health]` and their like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from edged.config.external import (
    DeviceId,
    SecretText,
)
from edged.config.parsers.choices import Flag
from edged.config.parsers.measures import (
    Period,
    Rate,
    Size,
)
from edged.config.parsers.names import (
    BaseTopic,
    HttpsFolder,
    Listen,
    Name,
    Tag,
    Topic,
)
from edged.config.parsers.numbers import (
    Workers,
)
from edged.config.parsers.paths import FilePath, SmallFile
from edged.config.schema.keys import Key, Several, Table
from edged.notation.units import S


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

    SLIPS: ClassVar[Mapping[str, tuple[str, str]]] = {"key": ("signed_by", "the signer's public key is signed_by")}
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
        Key("edged rolls back a configuration that it applied if health is worse after this time, or if edged ends before"),
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
