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
        "learn what is normal for a source, and write a model that scores how far samples are from it",
        "edged learn accel --for 10min -o models/normal",
        _learn,
    )
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
        "run a model on a recording, and compare its results with labels or with another model",
        "edged evaluate models/normal accel.rec labels.csv",
        _evaluate,
    )
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
    take_configuration(evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from edged.commands.evaluate import evaluate

    a = arguments
    return evaluate(a.model, a.recording, a.labels, a.config, a.pipeline, a.against, a.normal, a.json, a.svg)


def add_test(commands: Commands) -> None:
    test = commands.add(
        "test",
        "play the tests of a configuration, in NAME.test.toml beside it, in virtual time",
        "edged test -c edged.toml",
        _test,
    )
    test.add_argument("tests", nargs="*", metavar="NAME", help="play only the tests of these names")
    test.add_argument("--accept", action="store_true", help="write the actual results into the file, as the expected ones")
    test.add_argument("--junit", type=Path, metavar="FILE", help="also write the results as JUnit XML")
    test.add_argument("--json", action="store_true", help="print the results as JSON")
    take_configuration(test)


def _test(arguments: argparse.Namespace) -> int:
    from edged.commands.test import test

    return test(arguments.config, arguments.tests, arguments.junit, arguments.accept, arguments.json)


def add_record(commands: Commands) -> None:
    record = commands.add(
        "record",
        "record what a source sends, for a replay source to play",
        "edged record accel -o accel.rec --seconds 60",
        _record,
    )
    record.add_argument("source", metavar="SOURCE", help="a source of the configuration, or a port that several sources share")
    record.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the recording to write")
    record.add_argument("--seconds", type=float, metavar="N", help="stop after N seconds; without it, at Ctrl-C")
    take_configuration(record)


def _record(arguments: argparse.Namespace) -> int:
    from edged.commands.record import record

    if arguments.seconds is not None and not arguments.seconds > 0:
        process.complain("edged record: --seconds must be above 0")
        return EX_USAGE
    return record(arguments.config, arguments.source, arguments.output, arguments.seconds)
