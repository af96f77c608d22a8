"""The commands about models."""

from __future__ import annotations

import argparse
from pathlib import Path

from edged.commands.arguments.configuration import take_configuration
from edged.commands.arguments.parser import Commands
from edged.errors import EX_USAGE
from edged.system import process

LONGEST_BENCH_S = 3600


def add_bench(commands: Commands) -> None:
    bench = commands.add("bench", "measure a model on this machine, and recommend settings", "edged bench model.onnx", _bench)
    bench.add_argument(
        "model", metavar="MODEL", help="an .onnx file or a model folder; with -c, the name of a model of that configuration"
    )
    bench.add_argument("-c", "--config", type=Path, metavar="FILE", help="a configuration that says how the model runs")
    bench.add_argument("--seconds", type=float, default=20.0, metavar="N", help="measure for about N seconds (20)")
    bench.add_argument("--json", action="store_true", help="print the same as JSON")


def _bench(arguments: argparse.Namespace) -> int:
    from edged.commands.bench import bench

    if not 0 < arguments.seconds <= LONGEST_BENCH_S:
        process.complain(f"edged bench: --seconds must be above 0, and at most {LONGEST_BENCH_S}")
        return EX_USAGE
    return bench(arguments.model, arguments.config, arguments.seconds, arguments.json)


def add_model(commands: Commands) -> None:
    commands = commands.group(
        "model", "inspect a model, build its TensorRT engine, or go back to the version before", "edged model inspect model.onnx"
    )
    inspect = commands.add(
        "inspect", "show what a model is, and its time and memory on this machine", "edged model inspect model.onnx", _inspect
    )
    inspect.add_argument("path", type=Path, metavar="FILE", help="an .onnx file, or a folder with model.onnx and model.toml")
    inspect.add_argument("--json", action="store_true", help="print the same as JSON")
    prepare = commands.add(
        "prepare", "build the TensorRT engine of a model ahead of time", "edged model prepare vibration", _prepare_model
    )
    prepare.add_argument("name", metavar="NAME", help="a model of the configuration")
    take_configuration(prepare)
    rollback = commands.add(
        "rollback", "go back to the version of a model that ran before", "edged model rollback vibration", _roll_back
    )
    rollback.add_argument("name", metavar="NAME", help="a model of the configuration")
    take_configuration(rollback)


def _inspect(arguments: argparse.Namespace) -> int:
    from edged.commands.inspect import inspect

    return inspect(arguments.path, arguments.json)


def _prepare_model(arguments: argparse.Namespace) -> int:
    from edged.commands.prepare_model import prepare_model

    return prepare_model(arguments.config, arguments.name)


def _roll_back(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import roll_back

    return roll_back(arguments.config, arguments.name)
