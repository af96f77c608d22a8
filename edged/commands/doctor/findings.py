"""What is well on a machine and what is not, each in one line with its fix. Pure: facts in, findings out.

A finding is `ok`, `warn` (it works, not as it should, or not for long) or `bad` (something that is asked for does not work).
One fault gives one finding: whatever only follows from it is left to the one that has the fix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from edged.commands.doctor.facts import Facts, Holder, Port
from edged.errors import EX_OK, EX_UNAVAILABLE
from edged.notation.units import GIB, MIB
from edged.notation.words import rate_said
from edged.serialport.terminal import CONSOLE_FIX

LEVELS = ("ok", "warn", "bad")
STATUS = {"ok": EX_OK, "warn": 1, "bad": EX_UNAVAILABLE}
"""The exit status, by the worst finding."""


class Finding(NamedTuple):
    level: str
    topic: str
    text: str
    fix: str = ""
    word: str = ""
    """The state of a part that comes of it, where the manual tells more."""


class JetPack(NamedTuple):
    name: str
    python: str
    cuda: int


JETPACKS = {32: JetPack("4", "3.6", 10), 35: JetPack("5", "3.8", 11), 36: JetPack("6", "3.10", 12), 38: JetPack("7", "3.12", 13)}
"""By the first number of L4T."""
OLDEST_JETPACK = 36

SET_THIS_CENTURY = 1_735_689_600  # the first second of 2025: no clock that was ever set is before it
SOON_S = 30 * 86400.0
LOW, FULL = 256 * MIB, 16 * MIB
MUCH_SWAP = 64 * MIB
HOT_C = 80.0
NEAR_C = 3.0
WORN_TENTHS, DEAD_TENTHS = 9, 11  # of eMMC: 9 is 80 to 90 % of its life, 11 more than all of it
UNDER_VOLTAGE, THROTTLED_NOW = 0x1, 0xE
UNDER_VOLTAGE_WAS, THROTTLED_WAS = 0x10000, 0xE0000
SHORT_S = 60.0

OF_GPU = "the GPU belongs"
MODEM_MANAGER = "sudo systemctl disable --now ModemManager"
LET_GO = {
    "ModemManager": MODEM_MANAGER,
    "brltty": "sudo apt-get remove brltty",
    "agetty": "sudo raspi-config nonint do_serial_cons 1 (no login on the serial port), then reboot",
    "gpsd": "sudo systemctl disable --now gpsd gpsd.socket",
}
UNREACHED = {
    "refused": "start the broker at this address, or correct url",
    "unresolved": "getent hosts NAME asks the same name server; or put the IP address into url",
    "unreachable": "check cable, Wi-Fi and routes: ip addr; ip route",
    "timeout": "check that the broker is on, and that no firewall blocks the port",
    "tls": "openssl s_client -connect HOST:PORT shows the broker's certificate; ca in the configuration must have signed it",
    "files": "correct ca, cert and key",
    "websocket": "correct the path and the port in url",
}
COOL = "add a heat sink or a fan, or leave air around the board"
OURS = "start the broker (sudo systemctl start mosquitto), or correct url"


def diagnose(facts: Facts) -> list[Finding]:
    """Every topic in a fixed order; each says something, so that one sees what was looked at."""
    return [finding for topic in TOPICS for finding in topic(facts)]


def worst(findings: list[Finding]) -> str:
    return max((f.level for f in findings), key=LEVELS.index, default="ok")


def _system(f: Facts) -> Iterator[Finding]:
    board = f"{f.board}, " if f.board else ""
    jetpack = f", L4T {f.l4t}" if f.l4t else ""
    text = f"{board}{f.system}{jetpack}, {f.architecture}, {f.cores} cores, {f.memory_bytes / GIB:.1f} GiB, Python {f.python}"
    if f.bits < 64:
        yield Finding("bad", "system", f"{text}: 32 bits; onnxruntime has no 32-bit build", "install the 64-bit system")
    elif f.has_dot_product is False:
        yield Finding("ok", "system", f"{text}; no int8 dot product: int8 models are no faster here")
    else:
        yield Finding("ok", "system", text)


def _onnxruntime(f: Facts) -> Iterator[Finding]:
    level, text, fix = _onnx_fault(f) or _gpu_fault(f) or ("ok", "", "")
    said = f"onnxruntime {f.onnx.version}, runs on {', '.join(f.onnx.providers)}"
    if f.l4t and level == "ok":
        said += "; edged bench MODEL shows whether it has code for this GPU"
    yield Finding(level, "onnxruntime", f"{said}: {text}" if text and f.onnx.version else text or said, fix)


def _onnx_fault(f: Facts) -> tuple[str, str, str] | None:
    """What is wrong with it on any machine."""
    o = f.onnx
    packages = " and ".join(sorted(o.packages))
    if len(o.packages) > 1:
        keep = next((name for name in sorted(o.packages) if name != "onnxruntime"), "onnxruntime")
        fix = f"pip uninstall -y {' '.join(sorted(o.packages))}, then install {keep} again, alone"
        return "bad", f"{packages} are installed over each other; which one runs is undefined", fix
    if not o.packages and o.error:
        return "bad", "onnxruntime is not installed", "pip install onnxruntime; on a Jetson a build for its JetPack"
    if "numpy" in o.error.lower() or "_ARRAY_API" in o.error:
        return "bad", f"{packages} does not work with this numpy: {o.error}", 'pip install "numpy<2"'
    if o.error:
        return "bad", f"{packages}: {o.error}", f"pip install --force-reinstall {packages}; is it built for {f.architecture}?"
    return None


def _gpu_fault(f: Facts) -> tuple[str, str, str] | None:
    """What keeps it from the GPU that is here; without one there is nothing to keep it from."""
    o = f.onnx
    broken = next((f"its {rung} library does not load: {said}" for rung, said in o.broken.items()), "")
    if f.l4t:
        release = int(f.l4t.partition(".")[0])
        known = JETPACKS.get(release)
        if known is not None and release < OLDEST_JETPACK:
            text = f"L4T {f.l4t} is JetPack {known.name}: no onnxruntime for its GPU runs on Python {f.python}"
            return "warn", f"{text}; models run on the CPU", "update to JetPack 6 or newer with NVIDIA's SDK Manager"
        name = f"JetPack {known.name}" if known is not None else f"L4T {f.l4t}"
        build = f"an onnxruntime-gpu built for {name}{f', CUDA {known.cuda}, Python {known.python}' if known else ''}"
        fix = f"pip uninstall -y onnxruntime onnxruntime-gpu, then install {build}"
        if broken:
            return "warn", f"{broken}; it was built for another JetPack than {name}", fix
        if "cuda" not in o.providers:
            return "warn", f"it has no GPU provider, and this is a Jetson with {name}: models run on the CPU", fix
    elif f.has_nvidia:
        if broken:
            return "warn", broken, "install the CUDA and cuDNN libraries that it names"
        if "cuda" not in o.providers:
            fix = "pip uninstall -y onnxruntime, then pip install onnxruntime-gpu"
            return "warn", "it has no GPU provider, and an NVIDIA GPU is here: models run on the CPU", fix
    return None


def _groups(f: Facts) -> Iterator[Finding]:
    who, needed = f.user, _needed_groups(f)
    again = "sudo systemctl restart edged" if who.is_service else "log in again"
    for group, what in needed.items():
        if group in who.listed:
            text = f"{who.name} was added to {group} after this login, so the login lacks it"
            yield Finding("warn", "groups", text, again)
        else:
            text = f"{who.name} is not in the group {group}, to which {what}"
            word = "" if what == OF_GPU else "forbidden"
            yield Finding("bad", "groups", text, f"sudo usermod -aG {group} {who.name}, then {again}", word)
    if not needed:
        mine = ", ".join(sorted(who.groups)) or "no group"
        yield Finding("ok", "groups", f"{who.name}: {'may open everything' if who.uid == 0 else mine}")


def _needed_groups(f: Facts) -> dict[str, str]:
    """Groups that the user lacks, with what belongs to them: of the ports and the GPU that are here, and of ports to come."""
    who = f.user
    if who.uid == 0:
        return {}
    needed = {p.group: f"{p.path} belongs" for p in f.ports if p.is_there and not p.may_open and p.group}
    if any(p.source and not p.is_there and (not p.path or p.path.startswith("/dev/")) for p in f.ports):
        usual = next((name for name in ("dialout", "uucp") if name in f.known_groups), "")
        if usual and usual not in who.groups:
            needed.setdefault(usual, "serial ports belong")
    if f.l4t:
        needed |= {name: OF_GPU for name in ("video", "render") if name in f.known_groups - who.groups}
    return needed


def _ports(f: Facts) -> Iterator[Finding]:
    here = [p for p in f.ports if p.is_there]
    for p in f.ports:
        yield _port(f, p)
    if not f.ports:
        yield Finding("ok", "ports", "this machine has no serial port, and the configuration names none")
    held = {h.name for p in here for h in p.holders}
    for name in f.probers:
        if here and name not in held:
            yield Finding("warn", "ports", f"{name} runs, and writes to every new port to see what answers", LET_GO[name])


def _port(f: Facts, p: Port) -> Finding:
    who = f"{p.source}: " if p.source else ""
    if not p.is_there:
        text = f"{who}{p.path or 'its USB device'} is not there; edged waits for it"
        return Finding("warn", "ports", text, "plug it in; ls -l /dev/serial/by-id shows what is there")
    strangers = [h for h in p.holders if not _is_edged(f, h)]
    if strangers:
        first = strangers[0]
        fix = LET_GO.get(first.name, f"end it: sudo kill {first.pid}")
        text = f"{who}{p.path} is in use by {first.name or 'a process'}, pid {first.pid}"
        return Finding("bad" if p.source else "warn", "ports", text, fix, "busy")
    if p.console:
        text = f"{who}{p.console}: its messages mix with those of a sensor, and it reads what edged sends as commands"
        return Finding("bad" if p.source else "warn", "ports", text, CONSOLE_FIX)
    if not p.may_open and not p.group:
        text = f"{who}{f.user.name} may not open {p.path}: its mode gives no group access"
        return Finding("bad", "ports", text, 'add a udev rule: SUBSYSTEM=="tty", GROUP="dialout", MODE="0660"', "forbidden")
    return Finding("ok", "ports", f"{who}{p.path}{', in use by edged' if p.holders else ''}")


def _is_edged(f: Facts, holder: Holder) -> bool:
    return holder.pid == f.daemon.pid or holder.name == "edged"


def _brokers(f: Facts) -> Iterator[Finding]:
    for b in f.brokers:
        if b.failure:
            fix = UNREACHED.get(b.state, "see the broker's log")
            fix = OURS if b.state == "refused" and b.is_mosquitto else fix
            yield Finding("bad", "broker", f"{b.name}: {b.failure}", fix, b.state if b.state in UNREACHED else "")
            continue
        text = f"{b.name}: {b.url} answers within {max(1, round(b.took_ms))} ms"
        if b.certificate_ends is None:
            yield Finding("ok", "broker", text)
        elif b.certificate_ends - f.utc < SOON_S:
            yield Finding(
                "warn", "broker", f"{text}; its certificate ends on {_day(b.certificate_ends)}", "renew it on the broker"
            )
        else:
            yield Finding("ok", "broker", f"{text}, certificate until {_day(b.certificate_ends)}")


def _day(utc: float) -> str:
    return datetime.fromtimestamp(utc, timezone.utc).strftime("%Y-%m-%d")


def _queues(f: Facts) -> Iterator[Finding]:
    """What a broker keeps for us while we are away or withhold acknowledgments; beyond that it drops without a word."""
    for q in f.queues:
        kept = q.kept if q.kept is not None else 1000
        whose = "this machine's mosquitto keeps" if q.kept is not None else "mosquitto by default keeps"
        text = f"{q.broker}: {whose} {kept} messages for a client that is away or slow"
        if kept == 0:
            yield Finding("ok", "queue", f"{q.broker}: {whose} any number of messages for a client that is away or slow")
        elif q.rate is None or kept / q.rate >= SHORT_S:
            enough = f", {kept / q.rate / 60:.0f} min at {rate_said(q.rate)}" if q.rate else ""
            yield Finding("ok", "queue", f"{text}{enough} (max_queued_messages)")
        else:
            wanted = round(q.rate * SHORT_S * 10)
            short = f"{text}: {kept / q.rate:.2g} s at {rate_said(q.rate)}, then it drops them"
            yield Finding("warn", "queue", short, f"max_queued_messages {wanted} in mosquitto.conf")


def _clock(f: Facts) -> Iterator[Finding]:
    now = datetime.fromtimestamp(f.utc, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    fix = "sudo timedatectl set-ntp true; timedatectl timesync-status shows the time server"
    if f.utc < SET_THIS_CENTURY:
        yield Finding("bad", "clock", f"it says {now}: TLS rejects every certificate", fix)
    elif not f.is_clock_synced:
        yield Finding("warn", "clock", f'it says {now} and is not synchronized: results say clock = "unsynced"', fix)
    else:
        yield Finding("ok", "clock", f"synchronized, {now}")


def _cgroup(f: Facts) -> Iterator[Finding]:
    c = f.cgroup
    if c.has_memory:
        limit = f", {c.limit_bytes // MIB} MiB for the service" if c.limit_bytes is not None else ""
        yield Finding("ok", "cgroup", f"the kernel can limit memory (version {c.version}){limit}")
        return
    off = " (booted with cgroup_disable=memory)" if c.is_off_at_boot else ""
    text = f"the kernel limits no memory{off}: MemoryMax has no effect, and only edged itself watches its memory"
    pi = "put cgroup_enable=memory at the end of the line in /boot/firmware/cmdline.txt, then reboot"
    yield Finding("warn", "cgroup", text, pi if "Raspberry" in f.board else "boot the kernel with cgroup_enable=memory")


def _heat(f: Facts) -> Iterator[Finding]:
    flags = f.throttled or 0
    hottest = max(f.zones, key=lambda z: z.now_c, default=None)
    near = [z for z in f.zones if z.now_c >= (z.limit_c - NEAR_C if z.limit_c is not None else HOT_C)]
    if flags & (UNDER_VOLTAGE | UNDER_VOLTAGE_WAS):
        when = "is too low" if flags & UNDER_VOLTAGE else "was too low since the last boot"
        yield Finding(
            "warn",
            "heat",
            f"the supply voltage {when}: the board slows down, and cards get damaged",
            "use a stronger supply or a shorter cable",
        )
    elif flags & THROTTLED_NOW or near:
        where = f"{near[0].name} at {near[0].now_c:.0f} C" if near else "the board"
        yield Finding("warn", "heat", f"{where} is so hot that it slows down", COOL)
    elif flags & THROTTLED_WAS:
        yield Finding(
            "warn",
            "heat",
            "heat slowed the board down since the last boot",
            COOL,
        )
    elif hottest is not None:
        yield Finding("ok", "heat", f"{hottest.now_c:.0f} C at most ({hottest.name})")
    else:
        yield Finding("ok", "heat", "this machine reports no temperature")


def _disk(f: Facts) -> Iterator[Finding]:
    for d in f.folders:
        free = f"{d.free_bytes / MIB:.0f} MiB free" if d.free_bytes < GIB else f"{d.free_bytes / GIB:.1f} GiB free"
        where = f"{d.what}: {d.path}"
        if d.is_read_only:
            text = f"{where} is on a disk that is mounted read-only: nothing outlives a restart"
            yield Finding("bad", "disk", text, "sudo dmesg | grep -i error; replace a card that turns read-only by itself")
        elif not d.may_write:
            fix = f"sudo install -d -o {f.user.name} -m 700 {d.path}"
            yield Finding("bad", "disk", f"{where}: {f.user.name} may not write to it", fix)
        elif d.free_bytes < FULL and d.total_bytes:
            yield Finding(
                "bad", "disk", f"{where}: the disk is full, {free}", "sudo journalctl --vacuum-size=50M; sudo apt-get clean"
            )
        elif d.free_bytes < LOW and d.total_bytes:
            yield Finding("warn", "disk", f"{where}: {free}", "sudo journalctl --vacuum-size=50M; sudo apt-get clean")
        else:
            yield Finding("ok", "disk", f"{where}, {free}")


def _wear(f: Facts) -> Iterator[Finding]:
    for name in f.damaged:
        fix = "boot once with fsck.mode=force fsck.repair=yes on the kernel's line; keep a copy of the configuration"
        yield Finding("warn", "wear", f"the file system on {name} has errors", fix)
    for chip in f.flash:
        life = f"{chip.kind} {chip.name}: {(chip.used_tenths - 1) * 10} to {chip.used_tenths * 10} % of its life is used"
        if chip.used_tenths >= DEAD_TENTHS or chip.end >= 3:
            yield Finding(
                "bad", "wear", f"{chip.kind} {chip.name} is at the end of its life", "replace it, soon; copy /etc/edged first"
            )
        elif chip.used_tenths >= WORN_TENTHS or chip.end == 2:
            yield Finding("warn", "wear", life, "plan to replace it; log to memory: Storage=volatile in journald.conf")
        elif chip.used_tenths:
            yield Finding("ok", "wear", life)
        else:
            yield Finding("ok", "wear", f"{chip.kind} {chip.name} reports no wear")


def _swap(f: Facts) -> Iterator[Finding]:
    used = [s for s in f.swaps if "zram" not in s.name and s.used_bytes >= MUCH_SWAP]
    for s in used:
        text = f"{s.used_bytes // MIB} MiB are swapped to {s.name}: a model run can take seconds, and a card wears"
        yield Finding("warn", "swap", text, "run less here, or add memory; sudo swapoff -a shows whether everything fits")
    if not used:
        total = sum(s.total_bytes for s in f.swaps)
        yield Finding("ok", "swap", f"{total // MIB} MiB, hardly used" if total else "none")


def _process(f: Facts) -> Iterator[Finding]:
    p = f.process
    if not p.is_malloc_set:
        text = "the C library takes no malloc settings (it is not glibc): memory can grow with each model change"
        yield Finding("warn", "process", text, "run edged on a system with glibc: Debian, Raspberry Pi OS, Ubuntu")
    elif p.blas_threads != "1":
        text = f"OPENBLAS_NUM_THREADS is {p.blas_threads} here: idle threads take memory"
        yield Finding("warn", "process", text, "unset OPENBLAS_NUM_THREADS; edged sets it to 1")
    else:
        telemetry = "off" if p.is_telemetry_off else "on"
        yield Finding("ok", "process", f"malloc returns memory, numpy has one thread, onnxruntime's telemetry is {telemetry}")


def _configuration(f: Facts) -> Iterator[Finding]:
    c = f.configuration
    if not c.is_there and not c.is_asked_for:
        yield Finding("ok", "configuration", f"none at {c.path}; edged looked at the machine only")
    elif c.errors:
        more = f", and {len(c.errors) - 1} more" if len(c.errors) > 1 else ""
        yield Finding("bad", "configuration", f"{c.errors[0]}{more}", f"edged check -c {c.path}")
    elif c.unseen:
        text = f"{c.unseen[0].partition('; add')[0]}; edged did not look at what depends on it"
        yield Finding("warn", "configuration", text, f"sudo edged doctor -c {c.path}, while the service runs")
    else:
        yield Finding("ok", "configuration", c.path)


def _daemon(f: Facts) -> Iterator[Finding]:
    if f.daemon.pid is not None:
        yield Finding("ok", "daemon", f"runs, pid {f.daemon.pid}")
    elif f.daemon.is_closed:
        yield Finding("ok", "daemon", "may be running; this user may not ask it")
    elif f.has_unit:
        fix = "sudo systemctl start edged; journalctl -u edged -n 50 says why it ended"
        yield Finding("warn", "daemon", "the service is installed and does not run", fix)
    else:
        yield Finding("ok", "daemon", f"none runs with {f.configuration.path}")


TOPICS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _system, _onnxruntime, _configuration, _groups, _ports, _brokers, _queues, _clock, _cgroup, _heat, _disk, _wear, _swap,
    _process, _daemon,
)  # fmt: skip
