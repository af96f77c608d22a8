"""The commands about this machine and what is installed on it."""

from __future__ import annotations

import argparse
from pathlib import Path

from edged.commands.arguments.configuration import take_configuration
from edged.commands.arguments.parser import Commands
from edged.errors import EX_OK
from edged.system import process


def add_doctor(commands: Commands) -> None:
    doctor = commands.add("doctor", "look at this machine, and say what is wrong and how to fix it", "edged doctor", _doctor)
    doctor.add_argument("--json", action="store_true", help="print the findings, and the facts behind them, as JSON")
    take_configuration(doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from edged.commands.doctor.command import doctor

    return doctor(arguments.config, arguments.is_config_asked, arguments.json)


def add_bundle(commands: Commands) -> None:
    bundle = commands.add("bundle", "pack what a bug report needs into one file, without secrets", "edged bundle", _bundle)
    bundle.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the .tar.gz to write; by default its name holds the device and the time",
    )
    take_configuration(bundle)


def _bundle(arguments: argparse.Namespace) -> int:
    from edged.commands.bundle import bundle

    return bundle(arguments.config, arguments.output)


def add_service(commands: Commands) -> None:
    commands = commands.group("service", "run this installation as a systemd service", "sudo edged service install")
    install = commands.add(
        "install",
        "write the unit for this installation, create the user edged, start the service",
        "sudo edged service install",
        _install_service,
    )
    install.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="write into the tree of another system (/)")
    install.add_argument("--no-start", action="store_true", help="start the service at the next boot, not now")
    commands.add("remove", "stop the service and remove its unit", "sudo edged service remove", _remove_service)
    commands.add("unit", "print the unit that install would write", "edged service unit", _print_unit)


def _install_service(arguments: argparse.Namespace) -> int:
    from edged.commands.service import install

    return install(arguments.root, not arguments.no_start)


def _remove_service(arguments: argparse.Namespace) -> int:
    from edged.commands.service import remove

    return remove()


def _print_unit(arguments: argparse.Namespace) -> int:
    from edged.commands.service import program_here, unit_text

    process.say(unit_text(program_here()).rstrip())
    return EX_OK
