"""The commands that lead the devices of a group."""

from __future__ import annotations

import argparse
from pathlib import Path

from edged.commands.arguments.configuration import configuration, take_configuration
from edged.commands.arguments.parser import Commands
from edged.errors import EX_OK, EX_USAGE, Fatal
from edged.system import process


def add_fleet(commands: Commands) -> None:
    parser = commands.add(
        "fleet",
        "lead the devices of a group through their broker: models and roll-outs",
        "edged fleet status --broker mqtt://plant --to fleet/presses",
    )
    below = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, said: str, *, has_broker: bool = True, has_target: bool = False) -> argparse.ArgumentParser:
        one = below.add_parser(name, help=said, description=said[:1].upper() + said[1:] + ".")
        if has_broker:
            one.add_argument("--broker", required=True, metavar="URL|NAME", help="an address, or a name of the configuration")
            take_configuration(one)
            one.add_argument("--json", action="store_true", help="as JSON, for machines")
        if has_broker or has_target:
            one.add_argument("--to", required=True, metavar="TOPIC", help="the group: what its devices have as fleet.topic")
        if has_target:
            one.add_argument("--key", required=True, type=Path, metavar="FILE", help="the private key that signs")
            one.add_argument(
                "--percent", type=float, default=100.0, metavar="N", help="so many of the devices, always the same ones"
            )
            one.add_argument("--device", action="append", default=[], metavar="NAME", help="only this device (again for more)")
            one.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="only devices with this tag")
            one.add_argument(
                "--days", type=float, default=30.0, metavar="N", help="devices may take it for so many days (%(default)s)"
            )
        if has_broker and has_target:
            one.add_argument(
                "--wait", action="store_true", help="the canary (--percent) first, then the rest; stops when a report is bad"
            )
            one.add_argument("--timeout", type=float, default=600.0, metavar="S", help="for each step of --wait (%(default)s s)")
        one.set_defaults(command=_fleet, fleet=name)
        return one

    keys = add("key", "make a pair of keys: NAME.key signs, NAME.pub goes to the devices", has_broker=False)
    keys.add_argument("path", type=Path, metavar="NAME")
    add("status", "list every device of a group: what runs, what is wanted, and why not")
    watch = add("watch", "show every report of a group as it arrives")
    watch.add_argument("--seconds", type=float, metavar="N", help="end after so many seconds; without it, on Ctrl-C")
    collect = add("collect", "keep the hard samples that devices publish, as recordings, in a folder")
    collect.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    collect.add_argument("--labels", default="", metavar="TOPIC", help="where messages say what a result should have been")
    collect.add_argument(
        "--max-bytes", type=int, default=1 << 30, metavar="N", help="size of the folder; beyond it the oldest go (%(default)s)"
    )
    collect.add_argument("--seconds", type=float, metavar="N", help="end after so many seconds; without it, on Ctrl-C")
    for name, said in (
        ("push", "announce a model, or a configuration, to a group"),
        ("sign", "print an announcement, to be published by other means"),
    ):
        one = add(name, said, has_broker=name == "push", has_target=True)
        one.add_argument("file", type=Path, metavar="FILE", help="the .onnx, or a .tar of model.onnx and model.toml; or a .toml")
        one.add_argument("--url", required=True, help="its address on the server, or that of its folder with a /")
        one.add_argument("--name", metavar="MODEL", help="the [model.NAME] that it is for; without it, the name of the file")
        one.add_argument("--configuration", action="store_true", help="the file is a configuration, for the whole device")
        one.add_argument(
            "--as", dest="version", default="", metavar="VERSION", help="its version; without it, the start of its SHA-256"
        )
    back = add("rollback", "tell a group to go back to the version before", has_target=True)
    back.add_argument("name", metavar="MODEL", nargs="?", help="or --configuration")
    back.add_argument("--configuration", action="store_true", help="the configuration before, or the device's own")
    back.add_argument(
        "--from",
        dest="version",
        default="",
        metavar="VERSION",
        help="the version to leave; without it, the one that most devices run",
    )


def _fleet(arguments: argparse.Namespace) -> int:
    from edged.commands import fleet

    a = arguments
    if a.fleet == "key":
        return fleet.make_keys(a.path)
    where = fleet.Where(configuration(getattr(a, "config", None)), getattr(a, "broker", ""), a.to)
    if a.fleet == "status":
        return fleet.status(where, a.json)
    if a.fleet == "watch":
        return fleet.watch(where, a.json, a.seconds)
    if a.fleet == "collect":
        from edged.commands.collect import collect

        return collect(where, a.labels, a.output, a.max_bytes, a.seconds, a.json)
    tags = tuple((name, value) for name, _, value in (tag.partition("=") for tag in a.tag))
    target = fleet.Target(a.percent, tuple(a.device), tags, a.days)
    if a.fleet == "rollback":
        if (a.name is None) != a.configuration:
            raise Fatal("expected the name of a model, or --configuration", EX_USAGE)
        return fleet.rollback(where, a.name or "", a.version, a.key, target, a.wait, a.timeout, a.json)
    one = fleet.announce(a.file, "" if a.configuration else a.name or a.file.stem, a.version, a.url, a.to, target)
    if a.fleet == "sign":
        process.say(fleet.signed(one, a.key).decode())
        return EX_OK
    return fleet.push(where, one, a.key, a.wait, a.timeout, a.json)
