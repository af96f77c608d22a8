"""The commands. No settings live here: they are in the configuration file.

Heavy libraries are imported by the command that needs them, after the settings of the process are made.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from edged import __version__
from edged.errors import EX_CONFIG, EX_OK, EX_SOFTWARE, EX_USAGE, ConfigError, Fatal, Finding
from edged.notation.words import did_you_mean
from edged.system import process
from edged.system.terminal import look_of

DEFAULT_CONFIG = Path("/etc/edged/edged.toml")
LOCAL_CONFIG = Path("edged.toml")
CONFIG_HELP = f"configuration ($EDGED_CONFIG, else ./{LOCAL_CONFIG} if it exists, else {DEFAULT_CONFIG})"
LONGEST_BENCH_S = 3600
SHELLS = ("bash", "zsh", "fish")
TAP_STAGES = ("raw", "decoded", "window", "result")
BROKERS = ("mosquitto", "amqtt")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0; 64 for a command line, 69 when no daemon answers or another one runs, 78 for a configuration that cannot be
    run; 70 for a bug or a failure outside. `edged doctor`: 1 for warnings, 69 for worse."""
    process.set_up()
    try:
        return _command(argv)
    except ConfigError as error:
        complain_of(error.found)
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


def complain_of(found: Iterable[Finding]) -> None:
    """Problems of a configuration, on standard error, with the lines of the file that they are about."""
    from edged.commands.problems import problems_text

    process.complain(problems_text(found, look_of(sys.stderr)), is_clean=True)


def configuration(asked: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The file that a command means."""
    if asked is not None:
        return asked
    if environ.get("EDGED_CONFIG"):
        return Path(environ["EDGED_CONFIG"])
    return LOCAL_CONFIG if LOCAL_CONFIG.is_file() else DEFAULT_CONFIG


def _command(argv: list[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    if not words:
        parser.print_help()
        return EX_OK
    if said := _slip(parser, words):
        process.complain(said)
        return EX_USAGE
    arguments = parser.parse_args(words)
    if "config" in arguments:
        arguments.is_config_asked = arguments.config is not None or bool(os.environ.get("EDGED_CONFIG"))
        if arguments.command is not _bench:  # without one it measures a file
            arguments.config = configuration(arguments.config)
            arguments.is_config_asked |= arguments.config == LOCAL_CONFIG
    code: int = arguments.command(arguments)
    process.flush()  # a step of the user's may have printed
    return code


def _slip(parser: argparse.ArgumentParser, words: list[str], prog: str = "edged") -> str:
    """What to say of a word that is no command; empty where it is one."""
    below = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    if not below or not words or words[0].startswith("-"):
        return ""
    if words[0] in below:
        return _slip(below[words[0]], words[1:], f"{prog} {words[0]}")
    meant = did_you_mean(words[0], list(below))
    cure = meant.replace('mean "', f'mean "{prog} ') if meant else f"; there are: {', '.join(below)}"
    return f'{prog}: "{words[0]}" is no command{cure}'


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")

    def _print_message(self, message: str, file: object = None) -> None:
        """argparse's own hides what cannot be written."""
        (process.say if file is sys.stdout else process.complain)(message.rstrip("\n"))


class _Commands:
    """Adds commands to the parser, each with an example, which `edged` alone shows as well."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._below = parser.add_subparsers(required=True, metavar="COMMAND")
        self.examples: list[str] = []

    def add(self, name: str, said: str, example: str) -> argparse.ArgumentParser:
        self.examples.append(example)
        form = argparse.RawDescriptionHelpFormatter
        text = said[:1].upper() + said[1:] + "."
        return self._below.add_parser(name, help=said, description=text, epilog=f"example: {example}", formatter_class=form)


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="edged",
        description="Read sensors, run ONNX models, publish results, within a memory budget.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edged {__version__}")
    commands = _Commands(parser)
    demo = commands.add("demo", "show edged at work: a simulated sensor, a broker, a model", "edged demo --seconds 10")
    demo.add_argument("--seconds", type=float, metavar="N", help="end after N seconds; without it, at Ctrl-C")
    demo.add_argument("--broker", choices=BROKERS, help="which broker; by default mosquitto if it is installed")
    demo.set_defaults(command=_demo)
    init = commands.add(
        "init", "write a first configuration from what is plugged in or published, with a model", "edged init --model model.onnx"
    )
    _add_init(init)
    check = commands.add(
        "check", "check a configuration and its models, and print the plan with the memory table", "edged check -c edged.toml"
    )
    check.add_argument("--json", action="store_true", help="print the plan, errors and warnings as JSON")
    check.set_defaults(command=_check)
    run = commands.add("run", "run in the foreground until SIGTERM or Ctrl-C", "edged run -c edged.toml")
    run.add_argument(
        "--on-invalid",
        choices=("last-good", "exit"),
        default="exit",
        help="if the file has errors: run the last configuration that ran for a minute, or exit (exit)",
    )
    run.set_defaults(command=_run)
    status = commands.add("status", "show the state of each part of the daemon that runs with a configuration", "edged status")
    status.add_argument("--json", action="store_true", help="print everything as JSON, in the form of the health topic")
    status.add_argument("--rejects", action="store_true", help="also show the newest inputs that each source refused, and why")
    status.add_argument("--watch", action="store_true", help="show it again every two seconds, until Ctrl-C")
    status.add_argument(
        "--check", action="store_true", help="print one line; exit status 0: healthy, 1: degraded, 2: no daemon answers"
    )
    status.set_defaults(command=_status)
    top = commands.add(
        "top", "show a live screen of a daemon, or of a fleet, with problems first", "edged top --broker mqtt://plant"
    )
    top.add_argument(
        "--broker", metavar="URL|NAME", help="show all devices of this broker (a URL, or a name in the configuration)"
    )
    top.add_argument("--topic", default="edged/+/health", help="the topic of their health messages (%(default)s)")
    top.add_argument("--seconds", type=float, metavar="N", help="end after N seconds; without it, at Ctrl-C")
    top.add_argument("--once", action="store_true", help="print one screen, and end")
    top.set_defaults(command=_top)
    tap = commands.add(
        "tap",
        "show samples, windows or results as they pass through the daemon, or what arrives on a port or a topic",
        "edged tap accel -n 20",
    )
    _add_tap(tap)
    fleet = commands.add(
        "fleet",
        "bring models and configurations to a group of devices, through their broker",
        "edged fleet status --broker mqtt://plant --to fleet/presses",
    )
    _add_fleet(fleet)
    reload = commands.add("reload", "apply the configuration file to the daemon that runs with it", "edged reload --wait")
    reload.add_argument(
        "--wait",
        action="store_true",
        help="wait for the answer: what edged kept, added, changed and removed, or why it refused the file",
    )
    reload.add_argument("--json", action="store_true", help="print the answer as JSON")
    reload.set_defaults(command=_reload)
    pause = commands.add(
        "pause", "keep a pipeline from taking samples for a while, for maintenance", "edged pause motor --for 1h"
    )
    pause.add_argument("name", metavar="PIPELINE", help="a pipeline of the configuration")
    pause.add_argument("--for", dest="period", default="1h", metavar="TIME", help='how long it stays paused ("1h")')
    pause.set_defaults(command=_pause)
    resume = commands.add("resume", "let a paused pipeline take samples again", "edged resume motor")
    resume.add_argument("name", metavar="PIPELINE", help="a pipeline of the configuration")
    resume.set_defaults(command=_resume)
    ack = commands.add("ack", "acknowledge latched alarms of a pipeline (output.latch)", "edged ack motor --key pump7")
    ack.add_argument("name", metavar="PIPELINE", help="a pipeline of the configuration")
    ack.add_argument("--key", metavar="KEY", help="only the alarm of this key; without it, all")
    ack.set_defaults(command=_acknowledge)
    learn = commands.add(
        "learn",
        "learn what is normal for a source, and write a model that scores how far samples are from it",
        "edged learn accel --for 10min -o models/normal",
    )
    _add_learn(learn)
    evaluate = commands.add(
        "evaluate",
        "run a model on a recording, and compare its results with labels or with another model",
        "edged evaluate models/normal accel.rec labels.csv",
    )
    _add_evaluate(evaluate)
    test = commands.add(
        "test", "play the tests of a configuration, in NAME.test.toml beside it, in virtual time", "edged test -c edged.toml"
    )
    test.add_argument("tests", nargs="*", metavar="NAME", help="play only the tests of these names")
    test.add_argument("--accept", action="store_true", help="write the actual results into the file, as the expected ones")
    test.add_argument("--junit", type=Path, metavar="FILE", help="also write the results as JUnit XML")
    test.add_argument("--json", action="store_true", help="print the results as JSON")
    test.set_defaults(command=_test)
    record = commands.add(
        "record", "record what a source sends, for a replay source to play", "edged record accel -o accel.rec --seconds 60"
    )
    record.add_argument("source", metavar="SOURCE", help="a source of the configuration, or a port that several sources share")
    record.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the recording to write")
    record.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds; without it, at Ctrl-C")
    record.set_defaults(command=_record)
    doctor = commands.add("doctor", "look at this machine, and say what is wrong and how to fix it", "edged doctor")
    doctor.add_argument("--json", action="store_true", help="print the findings, and the facts behind them, as JSON")
    doctor.set_defaults(command=_doctor)
    bundle = commands.add("bundle", "pack what a bug report needs into one file, without secrets", "edged bundle")
    bundle.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the .tar.gz to write; by default its name holds the device and the time",
    )
    bundle.set_defaults(command=_bundle)
    bench = commands.add("bench", "measure a model on this machine, and recommend settings", "edged bench model.onnx")
    bench.add_argument(
        "model", metavar="MODEL", help="an .onnx file or a model folder; with -c, the name of a model of that configuration"
    )
    bench.add_argument("-c", "--config", type=Path, metavar="FILE", help="a configuration that says how the model runs")
    bench.add_argument("--seconds", type=float, default=20.0, metavar="N", help="measure for about N seconds (20)")
    bench.add_argument("--json", action="store_true", help="print the same as JSON")
    bench.set_defaults(command=_bench)
    named = _add_model(
        commands.add(
            "model",
            "inspect a model, build its TensorRT engine, or go back to the version before",
            "edged model inspect model.onnx",
        )
    )
    _add_service(commands.add("service", "run this installation as a systemd service", "sudo edged service install"))
    about = commands.add(
        "help", "explain a key, a table, a state or the reason of a drop, or print a page of the manual", "edged help silent"
    )
    about.add_argument("topic", nargs="?", metavar="WORD", help="such as baudrate, pipeline.window, silent or troubleshooting")
    about.set_defaults(command=_help)
    schema = commands.add(
        "schema", "print the JSON Schema of the configuration, for an editor", "edged schema > edged.schema.json"
    )
    schema.set_defaults(command=_schema)
    completions = commands.add(
        "completions",
        "print the script with which a shell completes edged commands",
        "edged completions bash > ~/.local/share/bash-completion/completions/edged",
    )
    completions.add_argument("shell", choices=SHELLS, help="which shell")
    completions.set_defaults(command=_completions)
    for command in (
        run,
        check,
        test,
        record,
        learn,
        evaluate,
        reload,
        status,
        tap,
        pause,
        resume,
        ack,
        top,
        doctor,
        bundle,
        *named,
    ):
        command.add_argument("-c", "--config", type=Path, metavar="FILE", help=CONFIG_HELP)
    parser.epilog = "\n".join(["examples:", *(f"  {example}" for example in commands.examples)])
    return parser


def _add_init(init: argparse.ArgumentParser) -> None:
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
    init.set_defaults(command=_init)


def _add_tap(tap: argparse.ArgumentParser) -> None:
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
    tap.set_defaults(command=_tap)


def _add_learn(learn: argparse.ArgumentParser) -> None:
    learn.add_argument("source", metavar="SOURCE", help="a source of the configuration, in normal operation")
    learn.add_argument(
        "recordings", metavar="RECORDING", type=Path, nargs="*", help="learn from recordings of the source (edged record) instead"
    )
    learn.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the model folder to write")
    learn.add_argument(
        "--for", dest="period", default="10min", metavar="TIME", help='how long to listen, such as "10min" (10min)'
    )
    learn.add_argument(
        "--window", type=int, metavar="N", help="samples per window (by default half a second of a fast sensor, else 1)"
    )
    learn.add_argument("--by-key", action="store_true", help="judge each key by what is normal for that key")
    learn.add_argument("--json", action="store_true", help="print the report as JSON")
    learn.set_defaults(command=_learn)


def _add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("model", metavar="MODEL", help="a model of the configuration, or the path of one")
    evaluate.add_argument(
        "recording", metavar="RECORDING", type=Path, help="a recording of its source (edged record), or a folder of samples"
    )
    evaluate.add_argument(
        "labels", metavar="LABELS", type=Path, nargs="?", help="CSV file with the columns time and label, optionally end and key"
    )
    evaluate.add_argument("--against", metavar="MODEL", help="a second model to compare with")
    evaluate.add_argument("--pipeline", metavar="NAME", help="the pipeline that says how the model runs, if several could")
    evaluate.add_argument("--normal", metavar="LABEL", default="normal", help="the label that means no fault (normal)")
    evaluate.add_argument("--svg", type=Path, metavar="FILE", help="also write a picture (SVG)")
    evaluate.add_argument("--json", action="store_true", help="print the same as JSON")
    evaluate.set_defaults(command=_evaluate)


def _add_model(parser: argparse.ArgumentParser) -> tuple[argparse.ArgumentParser, ...]:
    """The commands of `model`; returns those that want a configuration."""
    commands = _Commands(parser)
    inspect = commands.add(
        "inspect", "show what a model is, and its time and memory on this machine", "edged model inspect model.onnx"
    )
    inspect.add_argument("path", type=Path, metavar="FILE", help="an .onnx file, or a folder with model.onnx and model.toml")
    inspect.add_argument("--json", action="store_true", help="print the same as JSON")
    inspect.set_defaults(command=_inspect)
    prepare = commands.add("prepare", "build the TensorRT engine of a model ahead of time", "edged model prepare vibration")
    prepare.add_argument("name", metavar="NAME", help="a model of the configuration")
    prepare.set_defaults(command=_prepare_model)
    rollback = commands.add("rollback", "go back to the version of a model that ran before", "edged model rollback vibration")
    rollback.add_argument("name", metavar="NAME", help="a model of the configuration")
    rollback.set_defaults(command=_roll_back)
    return prepare, rollback


def _add_service(parser: argparse.ArgumentParser) -> None:
    commands = _Commands(parser)
    install = commands.add(
        "install", "write the unit for this installation, create the user edged, start the service", "sudo edged service install"
    )
    install.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="write into the tree of another system (/)")
    install.add_argument("--no-start", action="store_true", help="start the service at the next boot, not now")
    install.set_defaults(command=_install_service)
    remove = commands.add("remove", "stop the service and remove its unit", "sudo edged service remove")
    remove.set_defaults(command=_remove_service)
    unit = commands.add("unit", "print the unit that install would write", "edged service unit")
    unit.set_defaults(command=_print_unit)


def _demo(arguments: argparse.Namespace) -> int:
    from edged.demo.__main__ import demonstrate

    return demonstrate(arguments.seconds, arguments.broker, "edged demo")


def _help(arguments: argparse.Namespace) -> int:
    from edged.commands.help import show

    return show(arguments.topic, look_of(sys.stdout))


def _schema(arguments: argparse.Namespace) -> int:
    from edged.config.json_schema import json_schema

    process.say(json.dumps(json_schema(), indent=2))
    return EX_OK


def _completions(arguments: argparse.Namespace) -> int:
    from edged.commands import completions

    process.say(completions.SHELLS[arguments.shell](list(completions.commands_of(make_parser()))).rstrip())
    return EX_OK


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


def _run(arguments: argparse.Namespace) -> int:
    from edged.daemon.signals import Early

    early = Early().take()  # before seconds of imports
    gc.disable()  # what a start makes stays, and would be looked at again and again; `run` enables it
    from edged.commands.run import run

    return run(arguments.config, early, arguments.on_invalid)


def _check(arguments: argparse.Namespace) -> int:
    from edged.commands.check import check

    return check(arguments.config, arguments.json)


def _test(arguments: argparse.Namespace) -> int:
    from edged.commands.test import test

    return test(arguments.config, arguments.tests, arguments.junit, arguments.accept, arguments.json)


def _reload(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import reload

    return reload(arguments.config, arguments.wait, arguments.json)


def _status(arguments: argparse.Namespace) -> int:
    from edged.commands.status import check_status, status, watch

    if arguments.check:
        return check_status(arguments.config)
    if arguments.watch:
        return watch(arguments.config, arguments.rejects)
    return status(arguments.config, arguments.json, arguments.rejects)


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


def _resume(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import tell

    return tell(arguments.config, {"command": "resume", "pipeline": arguments.name}, f"{arguments.name} goes on")


def _acknowledge(arguments: argparse.Namespace) -> int:
    from edged.commands.ask import tell

    return tell(arguments.config, {"command": "ack", "pipeline": arguments.name, "key": arguments.key}, "acknowledged")


def _init(arguments: argparse.Namespace) -> int:
    from edged.commands.init.command import Asked, init

    a = arguments
    ports = tuple(a.serial)
    return init(Asked(a.output, ports, a.baudrate, a.broker, a.topic, a.seconds, a.model, a.results, a.runs, a.yes))


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


def _add_fleet(parser: argparse.ArgumentParser) -> None:
    below = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, said: str, *, has_broker: bool = True, has_target: bool = False) -> argparse.ArgumentParser:
        one = below.add_parser(name, help=said, description=said[:1].upper() + said[1:] + ".")
        if has_broker:
            one.add_argument("--broker", required=True, metavar="URL|NAME", help="a URL, or a name in the configuration")
            one.add_argument("-c", "--config", type=Path, metavar="FILE", help=CONFIG_HELP)
            one.add_argument("--json", action="store_true", help="print JSON")
        if has_broker or has_target:
            one.add_argument("--to", required=True, metavar="TOPIC", help="the group: fleet.topic of its devices")
        if has_target:
            one.add_argument("--key", required=True, type=Path, metavar="FILE", help="the private key to sign with")
            one.add_argument(
                "--percent", type=float, default=100.0, metavar="N", help="only N percent of the devices, always the same ones"
            )
            one.add_argument("--device", action="append", default=[], metavar="NAME", help="only this device (may be repeated)")
            one.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="only devices with this tag")
            one.add_argument("--days", type=float, default=30.0, metavar="N", help="devices may take it for N days (%(default)s)")
        if has_broker and has_target:
            one.add_argument(
                "--wait",
                action="store_true",
                help="announce it to a canary (--percent) first, then to the rest; stop at the first bad report",
            )
            one.add_argument(
                "--timeout", type=float, default=600.0, metavar="S", help="most seconds for each step of --wait (%(default)s)"
            )
        one.set_defaults(command=_fleet, fleet=name)
        return one

    keys = add("key", "make a pair of keys: NAME.key signs, NAME.pub goes to the devices", has_broker=False)
    keys.add_argument("path", type=Path, metavar="NAME", help="path of the two files, without .key and .pub")
    add("status", "list every device of a group: which version runs, which is wanted, and why they differ")
    watch = add("watch", "show every report of a group as it arrives")
    watch.add_argument("--seconds", type=float, metavar="N", help="end after N seconds; without it, at Ctrl-C")
    collect = add("collect", "keep the hard samples that devices publish, as recordings, in a folder")
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
    for name, said in (
        ("push", "announce a model, or a configuration, to a group"),
        ("sign", "print an announcement, to publish by other means"),
    ):
        one = add(name, said, has_broker=name == "push", has_target=True)
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
    back = add("rollback", "tell a group to go back to the version before", has_target=True)
    back.add_argument("name", metavar="MODEL", nargs="?", help="the model to roll back, or --configuration")
    back.add_argument("--configuration", action="store_true", help="the configuration before, or the device's own")
    back.add_argument(
        "--from",
        dest="version",
        default="",
        metavar="VERSION",
        help="the version to leave; by default the one that most devices run",
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


def _top(arguments: argparse.Namespace) -> int:
    from edged.commands.top import top

    return top(arguments.config, arguments.broker, arguments.topic, arguments.seconds, arguments.once)


def _bundle(arguments: argparse.Namespace) -> int:
    from edged.commands.bundle import bundle

    return bundle(arguments.config, arguments.output)


def _inspect(arguments: argparse.Namespace) -> int:
    from edged.commands.inspect import inspect

    return inspect(arguments.path, arguments.json)


def _doctor(arguments: argparse.Namespace) -> int:
    from edged.commands.doctor.command import doctor

    return doctor(arguments.config, arguments.is_config_asked, arguments.json)


def _learn(arguments: argparse.Namespace) -> int:
    from edged.commands.learn import MAX_SAMPLES, learn
    from edged.config.parsers.measures import seconds_of

    try:
        seconds = seconds_of(arguments.period)
    except ValueError as error:
        process.complain(f"edged learn: --for: {error}")
        return EX_USAGE
    if arguments.window is not None and not 1 <= arguments.window <= MAX_SAMPLES:
        process.complain(f"edged learn: --window must be from 1 to {MAX_SAMPLES} samples")
        return EX_USAGE
    a = arguments
    return learn(a.config, a.source, a.output, seconds, a.recordings, a.window, a.by_key, a.json)


def _evaluate(arguments: argparse.Namespace) -> int:
    from edged.commands.evaluate import evaluate

    a = arguments
    return evaluate(a.model, a.recording, a.labels, a.config, a.pipeline, a.against, a.normal, a.json, a.svg)


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
