"""The commands that ask a daemon that runs, or tell it something."""

from __future__ import annotations

import argparse

from edged.commands.arguments.configuration import take_configuration
from edged.commands.arguments.parser import Commands
from edged.errors import EX_USAGE
from edged.system import process

TAP_STAGES = ("raw", "decoded", "window", "result")


def add_status(commands: Commands) -> None:
    status = commands.add(
        "status", "show the state of each part of the daemon that runs with a configuration", "edged status", _status
    )
    status.add_argument("--json", action="store_true", help="print everything as JSON, in the form of the health topic")
    status.add_argument("--rejects", action="store_true", help="also show the newest inputs that each source refused, and why")
    status.add_argument("--watch", action="store_true", help="show it again every two seconds, until Ctrl-C")
    status.add_argument(
        "--check", action="store_true", help="print one line; exit status 0: healthy, 1: degraded, 2: no daemon answers"
    )
    take_configuration(status)


def _status(arguments: argparse.Namespace) -> int:
    from edged.commands.status import check_status, status, watch

    if arguments.check:
        return check_status(arguments.config)
    if arguments.watch:
        return watch(arguments.config, arguments.rejects)
    return status(arguments.config, arguments.json, arguments.rejects)


def add_top(commands: Commands) -> None:
    top = commands.add(
        "top", "show a live screen of a daemon, or of a fleet, with problems first", "edged top --broker mqtt://plant", _top
    )
    top.add_argument(
        "--broker", metavar="URL|NAME", help="show all devices of this broker (a URL, or a name in the configuration)"
    )
    top.add_argument("--topic", default="edged/+/health", help="the topic of their health messages (%(default)s)")
    top.add_argument("--seconds", type=float, metavar="N", help="end after N seconds; without it, at Ctrl-C")
    top.add_argument("--once", action="store_true", help="print one screen, and end")
    take_configuration(top)


def _top(arguments: argparse.Namespace) -> int:
    from edged.commands.top import top

    return top(arguments.config, arguments.broker, arguments.topic, arguments.seconds, arguments.once)


def add_tap(commands: Commands) -> None:
    tap = commands.add(
        "tap",
        "show samples, windows or results as they pass through the daemon, or what arrives on a port or a topic",
        "edged tap accel -n 20",
        _tap,
    )
    tap.add_argument(
        "stream",
        metavar="SOURCE|PIPELINE",
        nargs="?",
        help="a source or a pipeline of the daemon that runs with the configuration",
    )
    tap.add_argument(
        "--stage",
        choices=TAP_STAGES,
        help="raw: bytes; decoded: samples (default for a source); window: inputs of the model; result (default for a pipeline)",
    )
    tap.add_argument("--key", metavar="KEY", help="only this key")
    tap.add_argument(
        "--serial", metavar="PORT", help="without a daemon: show the lines of this port; opening it can reset a board"
    )
    tap.add_argument("--baudrate", type=int, default=115200, metavar="N", help="baud rate of the port (%(default)s)")
    tap.add_argument("--broker", metavar="URL|NAME", help="without a daemon: show messages of this broker")
    tap.add_argument("--topic", default="#", metavar="FILTER", help="only these topics (all)")
    tap.add_argument("-n", "--count", type=int, metavar="N", help="end after N lines; without it, at Ctrl-C")
    tap.add_argument("--seconds", type=float, metavar="N", help="with a port or a broker: end after N seconds")
    tap.add_argument("--json", action="store_true", help="print one line of JSON for each")
    take_configuration(tap)


def _tap(arguments: argparse.Namespace) -> int:
    from edged.commands.tap import tap, tap_port, tap_topic

    a = arguments
    if sum(one is not None for one in (a.stream, a.serial, a.broker)) != 1:
        process.complain("edged tap: expected a source or pipeline, or --serial PORT, or --broker URL")
        return EX_USAGE
    if a.serial is not None:
        return tap_port(a.serial, a.baudrate, a.count, a.seconds, a.json)
    if a.broker is not None:
        return tap_topic(a.config, a.broker, a.topic, a.count, a.seconds, a.json)
    return tap(a.config, a.stream, a.stage, a.key, a.count, a.json)


def add_reload(commands: Commands) -> None:
    reload = commands.add(
        "reload", "apply the configuration file to the daemon that runs with it", "edged reload --wait", _reload
    )
    reload.add_argument(
        "--wait",
        action="store_true",
        help="wait for the answer: what edged kept, added, changed and removed, or why it refused the file",
    )
    reload.add_argument("--json", action="store_true", help="print the answer as JSON")
    take_configuration(reload)


def _reload(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import reload

    return reload(arguments.config, arguments.wait, arguments.json)


def add_pause(commands: Commands) -> None:
    pause = commands.add(
        "pause", "keep a pipeline from taking samples for a while, for maintenance", "edged pause motor --for 1h", _pause
    )
    pause.add_argument("name", metavar="PIPELINE", help="a pipeline of the configuration")
    pause.add_argument("--for", dest="period", default="1h", metavar="TIME", help='how long it stays paused ("1h")')
    take_configuration(pause)


def _pause(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import tell
    from edged.config.parsers.measures import seconds_of

    try:
        seconds = seconds_of(arguments.period)
    except ValueError as error:
        process.complain(f"edged pause: --for: {error}")
        return EX_USAGE
    request = {"command": "pause", "pipeline": arguments.name, "seconds": seconds}
    return tell(arguments.config, request, f"{arguments.name} is paused for {arguments.period}")


def add_resume(commands: Commands) -> None:
    resume = commands.add("resume", "let a paused pipeline take samples again", "edged resume motor", _resume)
    resume.add_argument("name", metavar="PIPELINE", help="a pipeline of the configuration")
    take_configuration(resume)


def _resume(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import tell

    return tell(arguments.config, {"command": "resume", "pipeline": arguments.name}, f"{arguments.name} goes on")


def add_ack(commands: Commands) -> None:
    ack = commands.add(
        "ack", "acknowledge latched alarms of a pipeline (output.latch)", "edged ack motor --key pump7", _acknowledge
    )
    ack.add_argument("name", metavar="PIPELINE", help="a pipeline of the configuration")
    ack.add_argument("--key", metavar="KEY", help="only the alarm of this key; without it, all")
    take_configuration(ack)


def _acknowledge(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import tell

    return tell(arguments.config, {"command": "ack", "pipeline": arguments.name, "key": arguments.key}, "acknowledged")
