"""The commands. No settings live here: they are in the configuration file.

Heavy libraries are imported by the command that needs them, after the settings of the process are made.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import NoReturn

from edged import __version__
from edged.errors import EX_CONFIG, EX_OK, EX_SOFTWARE, EX_USAGE, ConfigError, Fatal
from edged.system import process

DEFAULT_CONFIG = "/etc/edged/edged.toml"
LONGEST_BENCH_S = 3600


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0; 64 for a command line, 69 when no daemon answers or another one runs, 78 for a configuration that cannot be
    run; 70 for a bug or a failure outside. `edged doctor`: 1 for warnings, 69 for worse."""
    process.set_up()
    try:
        return _command(argv)
    except ConfigError as error:
        process.complain("\n".join(error.lines))
        return EX_CONFIG
    except Fatal as error:
        process.complain(f"edged: {error}")
        return error.code
    except KeyboardInterrupt:
        return EX_SOFTWARE
    except BrokenPipeError:
        return EX_OK
    finally:
        with contextlib.suppress(Fatal, BrokenPipeError):  # there is something else to say
            process.flush()


def _command(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    code: int = arguments.command(arguments)
    process.flush()  # a step of the user's may have printed
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")

    def _print_message(self, message: str, file: object = None) -> None:
        """argparse's own hides what cannot be written."""
        (process.say if file is sys.stdout else process.complain)(message.rstrip("\n"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="edged", description="Sensors in, ONNX Runtime, results out, within a memory budget.")
    parser.add_argument("--version", action="version", version=f"edged {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run in the foreground until SIGTERM or Ctrl-C")
    run.add_argument(
        "--on-invalid",
        choices=("last-good", "exit"),
        default="exit",
        help="with a file that has errors: run the configuration that ran last for a minute, or exit (exit)",
    )
    run.set_defaults(command=_run)
    check = commands.add_parser("check", help="check a configuration and its models, print the plan and the memory table")
    check.add_argument("--json", action="store_true", help="the plan as JSON")
    check.set_defaults(command=_check)
    record = commands.add_parser("record", help="record what a source sends, to be played by a replay source")
    record.add_argument("source", metavar="SOURCE", help="name of a serial or MQTT source of the configuration")
    record.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the recording to write")
    record.add_argument("--seconds", type=float, metavar="N", help="stop after so long; else on Ctrl-C")
    record.set_defaults(command=_record)
    reload = commands.add_parser("reload", help="apply the configuration file to the daemon that runs with it")
    reload.add_argument(
        "--wait", action="store_true", help="wait for the answer: what was kept, added, changed, removed, or why not"
    )
    reload.add_argument("--json", action="store_true", help="the answer as JSON")
    reload.set_defaults(command=_reload)
    status = commands.add_parser("status", help="what the daemon that runs with a configuration says of its parts")
    status.add_argument("--json", action="store_true", help="all of it, as in its health topic")
    status.set_defaults(command=_status)
    test = commands.add_parser(
        "test", help="play the tests that stand beside a configuration, in NAME.test.toml, in virtual time"
    )
    test.add_argument("tests", nargs="*", metavar="NAME", help="only the tests of these names")
    test.add_argument("--accept", action="store_true", help="write what comes out into the file, as what is expected")
    test.add_argument("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML too")
    test.add_argument("--json", action="store_true", help="the results as JSON")
    test.set_defaults(command=_test)
    _add_doctor(commands.add_parser("doctor", help="look at this machine, and say what is wrong with it and how to mend it"))
    _add_bench(commands.add_parser("bench", help="measure a model on this machine, and say what to configure"))
    rollback = _add_model(commands.add_parser("model", help="look at a model, build its engine, or go back to the one before"))
    for command in (run, check, test, record, reload, status, rollback):
        command.add_argument(
            "-c", "--config", type=Path, default=Path(DEFAULT_CONFIG), metavar="FILE", help=f"configuration ({DEFAULT_CONFIG})"
        )
    return parser


def _add_doctor(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help=f"look at what this configuration names too ({DEFAULT_CONFIG})"
    )
    doctor.add_argument("--json", action="store_true", help="the findings, and the facts behind them, as JSON")
    doctor.set_defaults(command=_doctor)


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("model", metavar="MODEL", help="an .onnx file or a folder; with -c the name of a model in it")
    bench.add_argument("-c", "--config", type=Path, metavar="FILE", help="a configuration that says how the model is run")
    bench.add_argument("--seconds", type=float, default=20.0, metavar="N", help="how long to measure, about (20)")
    bench.add_argument("--json", action="store_true", help="the same as JSON")
    bench.set_defaults(command=_bench)


def _add_model(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    inspect = commands.add_parser("inspect", help="what a model is, and what it takes on this machine")
    inspect.add_argument("path", type=Path, metavar="FILE", help="an .onnx file, or a folder with model.onnx and model.toml")
    inspect.add_argument("--json", action="store_true", help="the same as JSON")
    inspect.set_defaults(command=_inspect)
    prepare = commands.add_parser("prepare", help="build TensorRT's engine for a model ahead of time")
    prepare.add_argument("name", metavar="NAME", help="of the model in the configuration")
    prepare.add_argument(
        "-c", "--config", type=Path, default=Path(DEFAULT_CONFIG), metavar="FILE", help=f"configuration ({DEFAULT_CONFIG})"
    )
    prepare.set_defaults(command=_prepare_model)
    rollback = commands.add_parser("rollback", help="go back to the version of a model that ran before")
    rollback.add_argument("name", metavar="NAME", help="of the model in the configuration")
    rollback.set_defaults(command=_roll_back)
    return rollback


def _run(arguments: argparse.Namespace) -> int:
    from edged.daemon.signals import Early

    early = Early().take()  # before seconds of imports
    from edged.commands.run import run

    return run(arguments.config, early, arguments.on_invalid)


def _check(arguments: argparse.Namespace) -> int:
    from edged.commands.run import check

    return check(arguments.config, arguments.json)


def _test(arguments: argparse.Namespace) -> int:
    from edged.commands.test import test

    return test(arguments.config, arguments.tests, arguments.junit, arguments.accept, arguments.json)


def _reload(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import reload

    return reload(arguments.config, arguments.wait, arguments.json)


def _status(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import status

    return status(arguments.config, arguments.json)


def _inspect(arguments: argparse.Namespace) -> int:
    from edged.commands.inspect import inspect

    return inspect(arguments.path, arguments.json)


def _doctor(arguments: argparse.Namespace) -> int:
    from edged.commands.doctor.command import doctor

    return doctor(arguments.config or Path(DEFAULT_CONFIG), arguments.config is not None, arguments.json)


def _prepare_model(arguments: argparse.Namespace) -> int:
    from edged.commands.prepare_model import prepare_model

    return prepare_model(arguments.config, arguments.name)


def _bench(arguments: argparse.Namespace) -> int:
    from edged.commands.bench import bench

    if not 0 < arguments.seconds <= LONGEST_BENCH_S:
        process.complain(f"edged bench: --seconds must be above 0, and at most {LONGEST_BENCH_S}")
        return EX_USAGE
    return bench(arguments.model, arguments.config, arguments.seconds, arguments.json)


def _roll_back(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import roll_back

    return roll_back(arguments.config, arguments.name)


def _record(arguments: argparse.Namespace) -> int:
    from edged.commands.record import record

    if arguments.seconds is not None and not arguments.seconds > 0:
        process.complain("edged record: --seconds must be above 0")
        return EX_USAGE
    return record(arguments.config, arguments.source, arguments.output, arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())
