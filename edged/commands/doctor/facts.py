"""What is known of a machine, as plain records. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class User(msgspec.Struct, frozen=True):
    """Who runs edged: the service's user where its unit is installed, else whoever asks. `listed` are the groups that
    /etc/group gives; a login that is older than its entry there does not have it yet."""

    name: str
    uid: int
    groups: frozenset[str]
    listed: frozenset[str]
    is_service: bool = False


class Holder(msgspec.Struct, frozen=True):
    """A program that has a port open, or has locked it."""

    pid: int
    name: str


class Port(msgspec.Struct, frozen=True):
    """A serial port. `group`: members of it may open it; `source`: who wants it, empty for one that is merely here."""

    path: str
    is_there: bool
    may_open: bool = True
    group: str = ""
    holders: tuple[Holder, ...] = ()
    source: str = ""
    console: str = ""
    """Why it is the kernel's console; empty if it is not."""


class Broker(msgspec.Struct, frozen=True):
    """What came of connecting to it: why not (`state` in one word), or when its certificate ends (seconds of UTC). `where`: its
    port or socket; `is_mosquitto`: it is the mosquitto of this machine, as far as that one's files say."""

    name: str
    url: str
    is_local: bool = False
    state: str = ""
    failure: str = ""
    took_ms: float = 0.0
    certificate_ends: float | None = None
    where: str = ""
    is_mosquitto: bool = False


class Queue(msgspec.Struct, frozen=True):
    """Inputs at QoS 1 of one broker: messages per second as far as `rate` tells, and what it keeps for us (None: unknown)."""

    broker: str
    rate: float | None
    kept: int | None


class Folder(msgspec.Struct, frozen=True):
    """Where something is to be kept, and the disk below it."""

    what: str
    path: str
    may_write: bool
    is_read_only: bool
    free_bytes: int
    total_bytes: int


class Flash(msgspec.Struct, frozen=True):
    """A card or a chip. `used_tenths`: of its life, by its own word (0: it does not say); `end`: 1 well, 2 near it, 3 there."""

    name: str
    kind: str
    used_tenths: int = 0
    end: int = 0


class Zone(msgspec.Struct, frozen=True):
    """A place where the board measures its heat. `limit_c`: where it begins to slow down, if it says so."""

    name: str
    now_c: float
    limit_c: float | None = None


class Swap(msgspec.Struct, frozen=True):
    name: str
    total_bytes: int
    used_bytes: int


class Cgroup(msgspec.Struct, frozen=True):
    """`version` 0: none is mounted. `limit_bytes`: of the service, where there is one."""

    version: int
    has_memory: bool
    is_off_at_boot: bool
    limit_bytes: int | None = None


class Onnx(msgspec.Struct, frozen=True):
    """onnxruntime: the packages that bring it, and what it said when it was imported, or why it could not be. `broken`: providers
    whose library does not load here."""

    packages: Mapping[str, str] = msgspec.field(default_factory=dict)
    version: str = ""
    providers: tuple[str, ...] = ()
    broken: Mapping[str, str] = msgspec.field(default_factory=dict)
    error: str = ""


class Process(msgspec.Struct, frozen=True):
    """What edged sets of its own process."""

    is_malloc_set: bool
    blas_threads: str
    is_telemetry_off: bool


class Configuration(msgspec.Struct, frozen=True):
    """A file, and the lines that say what is wrong with it. `is_asked_for`: it was named on the command line. `unseen`: what
    it takes from credentials that only the service has."""

    path: str
    is_asked_for: bool
    is_there: bool
    errors: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


class Daemon(msgspec.Struct, frozen=True):
    """The edged that runs with the configuration; `is_closed`: one runs, and this user may not speak to it."""

    pid: int | None = None
    is_closed: bool = False


class Facts(msgspec.Struct, frozen=True):
    """All of it. `l4t`: NVIDIA's release, `36.4.3`, empty elsewhere; `throttled`: the Pi's flags, None elsewhere."""

    system: str
    architecture: str
    bits: int
    cores: int
    memory_bytes: int
    python: str
    board: str
    l4t: str
    has_nvidia: bool
    has_dot_product: bool | None
    onnx: Onnx
    user: User
    known_groups: frozenset[str]
    ports: tuple[Port, ...]
    probers: tuple[str, ...]
    configuration: Configuration
    brokers: tuple[Broker, ...]
    queues: tuple[Queue, ...]
    utc: float
    is_clock_synced: bool
    cgroup: Cgroup
    throttled: int | None
    zones: tuple[Zone, ...]
    folders: tuple[Folder, ...]
    flash: tuple[Flash, ...]
    damaged: tuple[str, ...]
    swaps: tuple[Swap, ...]
    process: Process
    daemon: Daemon
    has_unit: bool
