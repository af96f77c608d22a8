"""The commands that lead the devices of a group."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edged.commands.arguments.configuration import take_configuration
from edged.commands.arguments.parser import Commands
from edged.errors import EX_OK, EX_USAGE, Fatal
from edged.system import process

if TYPE_CHECKING:
    from edged.commands.fleet import Target, Where
    from edged.fleet.announcement import Announcement


def add_fleet(commands: Commands) -> None:
    parser = commands.add(
        "fleet",
        "lead the devices of a group through their broker: models and roll-outs",
        "edged fleet status --broker mqtt://plant --to fleet/presses",
    )
    below = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, said: str, command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        one = below.add_parser(name, help=said, description=said[:1].upper() + said[1:] + ".")
        one.set_defaults(command=command)
        return one

    keys = add("key", "make a pair of keys: NAME.key signs, NAME.pub goes to the devices", _make_keys)
    keys.add_argument("path", type=Path, metavar="NAME")
    status = add("status", "list every device of a group: what runs, what is wanted, and why not", _status)
    _take_group(status)
    watch = add("watch", "show every report of a group as it arrives", _watch)
    _take_group(watch)
    watch.add_argument("--seconds", type=float, metavar="N", help="end after so many seconds; without it, on Ctrl-C")
    collect = add("collect", "keep the hard samples that devices publish, as recordings, in a folder", _collect)
    _take_group(collect)
    collect.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    collect.add_argument("--labels", default="", metavar="TOPIC", help="where messages say what a result should have been")
    collect.add_argument(
        "--max-bytes", type=int, default=1 << 30, metavar="N", help="size of the folder; beyond it the oldest go (%(default)s)"
    )
    collect.add_argument("--seconds", type=float, metavar="N", help="end after so many seconds; without it, on Ctrl-C")
    push = add("push", "announce a model, or a configuration, to a group", _push)
    _take_group(push)
    _take_target(push)
    _take_wait(push)
    _take_file(push)
    sign = add("sign", "print an announcement, to be published by other means", _sign)
    _take_topic(sign)
    _take_target(sign)
    _take_file(sign)
    back = add("rollback", "tell a group to go back to the version before", _roll_back)
    _take_group(back)
    _take_target(back)
    _take_wait(back)
    back.add_argument("name", metavar="MODEL", nargs="?", help="or --configuration")
    back.add_argument("--configuration", action="store_true", help="the configuration before, or the device's own")
    back.add_argument(
        "--from",
        dest="version",
        default="",
        metavar="VERSION",
        help="the version to leave; without it, the one that most devices run",
    )


def _take_group(one: argparse.ArgumentParser) -> None:
    """Of the commands that speak to the broker."""
    one.add_argument("--broker", required=True, metavar="URL|NAME", help="an address, or a name of the configuration")
    take_configuration(one)
    one.add_argument("--json", action="store_true", help="as JSON, for machines")
    _take_topic(one)


def _take_topic(one: argparse.ArgumentParser) -> None:
    one.add_argument("--to", required=True, metavar="TOPIC", help="the group: what its devices have as fleet.topic")


def _take_target(one: argparse.ArgumentParser) -> None:
    """Of the commands that sign."""
    one.add_argument("--key", required=True, type=Path, metavar="FILE", help="the private key that signs")
    one.add_argument("--percent", type=float, default=100.0, metavar="N", help="so many of the devices, always the same ones")
    one.add_argument("--device", action="append", default=[], metavar="NAME", help="only this device (again for more)")
    one.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="only devices with this tag")
    one.add_argument("--days", type=float, default=30.0, metavar="N", help="devices may take it for so many days (%(default)s)")


def _take_wait(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--wait", action="store_true", help="the canary (--percent) first, then the rest; stops when a report is bad"
    )
    one.add_argument("--timeout", type=float, default=600.0, metavar="S", help="for each step of --wait (%(default)s s)")


def _take_file(one: argparse.ArgumentParser) -> None:
    one.add_argument("file", type=Path, metavar="FILE", help="the .onnx, or a .tar of model.onnx and model.toml; or a .toml")
    one.add_argument("--url", required=True, help="its address on the server, or that of its folder with a /")
    one.add_argument("--name", metavar="MODEL", help="the [model.NAME] that it is for; without it, the name of the file")
    one.add_argument("--configuration", action="store_true", help="the file is a configuration, for the whole device")
    one.add_argument(
        "--as", dest="version", default="", metavar="VERSION", help="its version; without it, the start of its SHA-256"
    )


def _make_keys(a: argparse.Namespace) -> int:
    from edged.commands.fleet import make_keys

    return make_keys(a.path)


def _status(a: argparse.Namespace) -> int:
    from edged.commands.fleet import status

    return status(_where(a), a.json)


def _watch(a: argparse.Namespace) -> int:
    from edged.commands.fleet import watch

    return watch(_where(a), a.json, a.seconds)


def _collect(a: argparse.Namespace) -> int:
    from edged.commands.collect import collect

    return collect(_where(a), a.labels, a.output, a.max_bytes, a.seconds, a.json)


def _push(a: argparse.Namespace) -> int:
    from edged.commands.fleet import push

    return push(_where(a), _announcement(a), a.key, a.wait, a.timeout, a.json)


def _sign(a: argparse.Namespace) -> int:
    from edged.commands.fleet import signed

    process.say(signed(_announcement(a), a.key).decode())
    return EX_OK


def _roll_back(a: argparse.Namespace) -> int:
    from edged.commands.fleet import rollback

    if (a.name is None) != a.configuration:
        raise Fatal("expected the name of a model, or --configuration", EX_USAGE)
    return rollback(_where(a), a.name or "", a.version, a.key, _target(a), a.wait, a.timeout, a.json)


def _where(a: argparse.Namespace) -> Where:
    from edged.commands.fleet import Where

    return Where(a.config, a.broker, a.to)


def _target(a: argparse.Namespace) -> Target:
    from edged.commands.fleet import Target

    tags = tuple((name, value) for name, _, value in (tag.partition("=") for tag in a.tag))
    return Target(a.percent, tuple(a.device), tags, a.days)


def _announcement(a: argparse.Namespace) -> Announcement:
    from edged.commands.fleet import announce

    return announce(a.file, "" if a.configuration else a.name or a.file.stem, a.version, a.url, a.to, _target(a))
