"""The commands that somebody starts with: see it, write a configuration, check it, run it."""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

from edged.commands.arguments.configuration import LOCAL_CONFIG, take_configuration
from edged.commands.arguments.parser import Commands

BROKERS = ("mosquitto", "amqtt")


def add_demo(commands: Commands) -> None:
    demo = commands.add("demo", "show edged at work: a simulated sensor, a broker, a model", "edged demo --seconds 10", _demo)
    demo.add_argument("--seconds", type=float, metavar="N", help="end after N seconds; without it, at Ctrl-C")
    demo.add_argument("--broker", choices=BROKERS, help="which broker; by default mosquitto if it is installed")


def _demo(arguments: argparse.Namespace) -> int:
    from edged.demo.__main__ import demonstrate

    return demonstrate(arguments.seconds, arguments.broker, "edged demo")


def add_init(commands: Commands) -> None:
    init = commands.add(
        "init",
        "write a first configuration from what is plugged in or published, with a model",
        "edged init --model model.onnx",
        _init,
    )
    init.add_argument("-o", "--output", type=Path, default=LOCAL_CONFIG, metavar="FILE", help="the file to write (%(default)s)")
    init.add_argument(
        "--serial",
        action="append",
        default=[],
        metavar="PORT",
        help="listen to this port; you agree that edged opens it (may be repeated)",
    )
    init.add_argument("--baudrate", type=int, metavar="N", help="baud rate of the ports; without it, edged finds it")
    init.add_argument("--broker", metavar="URL", help="listen to the topics of this broker")
    init.add_argument("--topic", default="#", metavar="FILTER", help="only these topics (all)")
    init.add_argument("--seconds", type=float, default=10.0, metavar="N", help="how long to listen to a broker (10)")
    init.add_argument("--model", metavar="PATH", help='a model folder or an .onnx file; "none": samples are results')
    init.add_argument("--results", metavar="URL", help="the broker to publish results to (mqtt://localhost)")
    run = init.add_mutually_exclusive_group()
    run.add_argument(
        "--run",
        dest="runs",
        action="store_true",
        default=None,
        help="run the configuration for ten seconds, and show its results",
    )
    run.add_argument("--no-run", dest="runs", action="store_false", default=None, help="do not run the configuration")
    init.add_argument("--yes", action="store_true", help="ask nothing: take the default of each option that is not given")


def _init(arguments: argparse.Namespace) -> int:
    from edged.commands.init.command import Asked, init

    a = arguments
    ports = tuple(a.serial)
    return init(Asked(a.output, ports, a.baudrate, a.broker, a.topic, a.seconds, a.model, a.results, a.runs, a.yes))


def add_check(commands: Commands) -> None:
    check = commands.add(
        "check",
        "check a configuration and its models, and print the plan with the memory table",
        "edged check -c edged.toml",
        _check,
    )
    check.add_argument("--json", action="store_true", help="print the plan, errors and warnings as JSON")
    take_configuration(check)


def _check(arguments: argparse.Namespace) -> int:
    from edged.commands.check import check

    return check(arguments.config, arguments.json)


def add_run(commands: Commands) -> None:
    run = commands.add("run", "run in the foreground until SIGTERM or Ctrl-C", "edged run -c edged.toml", _run)
    run.add_argument(
        "--on-invalid",
        choices=("last-good", "exit"),
        default="exit",
        help="if the file has errors: run the last configuration that ran for a minute, or exit (exit)",
    )
    take_configuration(run)


def _run(arguments: argparse.Namespace) -> int:
    from edged.daemon.signals import Early

    early = Early().take()  # before seconds of imports
    gc.disable()  # what a start makes stays, and would be looked at again and again; `run` enables it
    from edged.commands.run import run

    return run(arguments.config, early, arguments.on_invalid)
