"""The commands that lead the devices of a group."""

from __future__ import annotations

import argparse
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
    commands = commands.group(
        "fleet",
        "bring models and configurations to a group of devices, through their broker",
        "edged fleet status --broker mqtt://plant --to fleet/presses",
    )
    keys = commands.add(
        "key", "make a pair of keys: NAME.key signs, NAME.pub goes to the devices", "edged fleet key fleet", _make_keys
    )
    keys.add_argument("path", type=Path, metavar="NAME", help="path of the two files, without .key and .pub")
    status = commands.add(
        "status",
        "list every device of a group: which version runs, which is wanted, and why they differ",
        "edged fleet status --broker mqtt://plant --to fleet/presses",
        _status,
    )
    _take_group(status)
    watch = commands.add(
        "watch",
        "show every report of a group as it arrives",
        "edged fleet watch --broker mqtt://plant --to fleet/presses",
        _watch,
    )
    _take_group(watch)
    watch.add_argument("--seconds", type=float, metavar="N", help="end after N seconds; without it, at Ctrl-C")
    collect = commands.add(
        "collect",
        "keep the hard samples that devices publish, as recordings, in a folder",
        "edged fleet collect --broker mqtt://plant --to fleet/presses/samples/+ -o samples",
        _collect,
    )
    _take_group(collect)
    collect.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the folder to write to")
    collect.add_argument(
        "--labels", default="", metavar="TOPIC", help="the topic of messages that say what a result should have been"
    )
    collect.add_argument(
        "--max-bytes",
        type=int,
        default=1 << 30,
        metavar="N",
        help="largest size of the folder; beyond it edged deletes the oldest (%(default)s)",
    )
    collect.add_argument("--seconds", type=float, metavar="N", help="end after N seconds; without it, at Ctrl-C")
    push = commands.add(
        "push",
        "announce a model, or a configuration, to a group",
        "edged fleet push normal.onnx --url https://models.plant/ --key fleet.key --broker mqtt://plant --to fleet/presses",
        _push,
    )
    _take_group(push)
    _take_target(push)
    _take_wait(push)
    _take_file(push)
    sign = commands.add(
        "sign",
        "print an announcement, to publish by other means",
        "edged fleet sign normal.onnx --url https://models.plant/ --key fleet.key --to fleet/presses",
        _sign,
    )
    _take_topic(sign)
    _take_target(sign)
    _take_file(sign)
    back = commands.add(
        "rollback",
        "tell a group to go back to the version before",
        "edged fleet rollback normal --key fleet.key --broker mqtt://plant --to fleet/presses",
        _roll_back,
    )
    _take_group(back)
    _take_target(back)
    _take_wait(back)
    back.add_argument("name", metavar="MODEL", nargs="?", help="the model to roll back, or --configuration")
    back.add_argument("--configuration", action="store_true", help="the configuration before, or the device's own")
    back.add_argument(
        "--from",
        dest="version",
        default="",
        metavar="VERSION",
        help="the version to roll back from; by default the one that most devices run",
    )


def _take_group(one: argparse.ArgumentParser) -> None:
    """Of the commands that speak to the broker."""
    one.add_argument("--broker", required=True, metavar="URL|NAME", help="a URL, or a name in the configuration")
    take_configuration(one)
    one.add_argument("--json", action="store_true", help="print JSON")
    _take_topic(one)


def _take_topic(one: argparse.ArgumentParser) -> None:
    one.add_argument("--to", required=True, metavar="TOPIC", help="the group: fleet.topic of its devices")


def _take_target(one: argparse.ArgumentParser) -> None:
    """Of the commands that sign."""
    one.add_argument("--key", required=True, type=Path, metavar="FILE", help="the private key to sign with")
    one.add_argument(
        "--percent", type=float, default=100.0, metavar="N", help="only N percent of the devices, always the same ones"
    )
    one.add_argument("--device", action="append", default=[], metavar="NAME", help="only this device (may be repeated)")
    one.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="only devices with this tag")
    one.add_argument("--days", type=float, default=30.0, metavar="N", help="devices may take it for N days (%(default)s)")


def _take_wait(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--wait",
        action="store_true",
        help="announce it to a canary (--percent) first, then to the rest; stop at the first bad report",
    )
    one.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="most seconds for each step of --wait (%(default)s)"
    )


def _take_file(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="an .onnx file, or a .tar of model.onnx and model.toml; with --configuration a .toml file",
    )
    one.add_argument("--url", required=True, help="the file's URL on the web server, or that of its folder, ending in /")
    one.add_argument("--name", metavar="MODEL", help="the [model.NAME] that it is for; by default the name of the file")
    one.add_argument("--configuration", action="store_true", help="the file is a configuration, for the whole device")
    one.add_argument(
        "--as", dest="version", default="", metavar="VERSION", help="its version; by default the start of its SHA-256"
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
