"""All commands, in the order in which `edged --help` lists them."""

from __future__ import annotations

import argparse

from edged import __version__
from edged.commands.arguments.fleet import add_fleet
from edged.commands.arguments.machine import add_bundle, add_doctor, add_service
from edged.commands.arguments.models import add_bench, add_model
from edged.commands.arguments.parser import Commands, Parser
from edged.commands.arguments.recordings import add_evaluate, add_learn, add_record, add_test
from edged.commands.arguments.reference import add_completions, add_help, add_schema
from edged.commands.arguments.running import add_ack, add_pause, add_reload, add_resume, add_status, add_tap, add_top
from edged.commands.arguments.start import add_check, add_demo, add_init, add_run

COMMANDS = (
    add_demo,
    add_init,
    add_check,
    add_run,
    add_status,
    add_top,
    add_tap,
    add_fleet,
    add_reload,
    add_pause,
    add_resume,
    add_ack,
    add_learn,
    add_evaluate,
    add_test,
    add_record,
    add_doctor,
    add_bundle,
    add_bench,
    add_model,
    add_service,
    add_help,
    add_schema,
    add_completions,
)


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="edged",
        description="Read sensors, run ONNX models, publish results, within a memory budget.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edged {__version__}")
    commands = Commands(parser)
    for add in COMMANDS:
        add(commands)
    parser.epilog = "\n".join(["examples:", *(f"  {example}" for example in commands.examples)])
    return parser
