"""The commands that make recordings, learn from them, and judge by them."""

from __future__ import annotations

import argparse
from pathlib import Path

from edged.commands.arguments.configuration import take_configuration
from edged.commands.arguments.parser import Commands
from edged.errors import EX_USAGE
from edged.system import process


def add_learn(commands: Commands) -> None:
    learn = commands.add(
        "learn",
        "learn what is normal for a source, and write a model that says how far it is from that",
        "edged learn accel --for 10min -o models/normal",
    )
    learn.add_argument("source", metavar="SOURCE", help="name of a source of the configuration, in normal operation")
    learn.add_argument(
        "recordings", metavar="RECORDING", type=Path, nargs="*", help="learn from recordings of it (edged record) instead"
    )
    learn.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the model folder to write")
    learn.add_argument(
        "--for", dest="period", default="10min", metavar="TIME", help='how long to listen, such as "10min" (10min)'
    )
    learn.add_argument(
        "--window", type=int, metavar="N", help="samples of a window (half a second of a fast sensor; else 1, each by itself)"
    )
    learn.add_argument("--by-key", action="store_true", help="what is normal differs from key to key: judge each by its own")
    learn.add_argument("--json", action="store_true", help="the report as JSON")
    learn.set_defaults(command=_learn)
    take_configuration(learn)


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


def add_evaluate(commands: Commands) -> None:
    evaluate = commands.add(
        "evaluate",
        "show what a model would have said of a recording, beside the truth or another model",
        "edged evaluate models/normal accel.rec labels.csv",
    )
    evaluate.add_argument("model", metavar="MODEL", help="name of a model of the configuration, or the path of one")
    evaluate.add_argument(
        "recording", metavar="RECORDING", type=Path, help="of the source of its pipeline (edged record), or a folder of samples"
    )
    evaluate.add_argument(
        "labels", metavar="LABELS", type=Path, nargs="?", help="CSV with the columns time, label, maybe end and key"
    )
    evaluate.add_argument("--against", metavar="MODEL", help="another model, side by side")
    evaluate.add_argument("--pipeline", metavar="NAME", help="how the model is run, where several pipelines could be meant")
    evaluate.add_argument("--normal", metavar="LABEL", default="normal", help="which label is no fault (normal)")
    evaluate.add_argument("--svg", type=Path, metavar="FILE", help="write a picture of it, too")
    evaluate.add_argument("--json", action="store_true", help="the same as JSON")
    evaluate.set_defaults(command=_evaluate)
    take_configuration(evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from edged.commands.evaluate import evaluate

    a = arguments
    return evaluate(a.model, a.recording, a.labels, a.config, a.pipeline, a.against, a.normal, a.json, a.svg)


def add_test(commands: Commands) -> None:
    test = commands.add(
        "test", "play the tests that stand beside a configuration, in NAME.test.toml, in virtual time", "edged test -c edged.toml"
    )
    test.add_argument("tests", nargs="*", metavar="NAME", help="only the tests of these names")
    test.add_argument("--accept", action="store_true", help="write what comes out into the file, as what is expected")
    test.add_argument("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML too")
    test.add_argument("--json", action="store_true", help="the results as JSON")
    test.set_defaults(command=_test)
    take_configuration(test)


def _test(arguments: argparse.Namespace) -> int:
    from edged.commands.test import test

    return test(arguments.config, arguments.tests, arguments.junit, arguments.accept, arguments.json)


def add_record(commands: Commands) -> None:
    record = commands.add(
        "record", "record what a source sends, to be played by a replay source", "edged record accel -o accel.rec --seconds 60"
    )
    record.add_argument("source", metavar="SOURCE", help="name of a source of the configuration, or of a port that several share")
    record.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the recording to write")
    record.add_argument("--seconds", type=float, metavar="N", help="stop after so many seconds; without it, on Ctrl-C")
    record.set_defaults(command=_record)
    take_configuration(record)


def _record(arguments: argparse.Namespace) -> int:
    from edged.commands.record import record

    if arguments.seconds is not None and not arguments.seconds > 0:
        process.complain("edged record: --seconds must be above 0")
        return EX_USAGE
    return record(arguments.config, arguments.source, arguments.output, arguments.seconds)
