"""What `edged completions SHELL` prints: what a shell needs to know to complete a command line of edged.

Made from the parser of the command line, so that it knows every command and option. Pure.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple


class Option(NamedTuple):
    """One option: how it is written, what it does, whether it takes a value, and which, where there are few."""

    flags: tuple[str, ...]
    help: str
    has_value: bool
    choices: tuple[str, ...]


class Command(NamedTuple):
    """A command, or one below a command (`model inspect`), and what may follow it."""

    words: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    values: tuple[str, ...]


def commands_of(parser: argparse.ArgumentParser, words: tuple[str, ...] = (), said: str = "") -> Iterator[Command]:
    """All commands of a parser, the program itself first."""
    options, values, below = [], [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            values += list(action.choices)
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            below = [(name, helps.get(name, ""), one) for name, one in action.choices.items()]
        elif action.option_strings:
            choices = tuple(map(str, action.choices or ()))
            has_value = action.nargs != 0
            options.append(Option(tuple(action.option_strings), action.help or "", has_value, choices))
        else:
            values += list(map(str, action.choices or ()))
    yield Command(words, said, tuple(options), tuple(values))
    for name, about, one in below:
        yield from commands_of(one, (*words, name), about)


def bash(commands: list[Command]) -> str:
    cases = "\n".join(
        f"    {_quoted(' '.join(c.words))}) words={_quoted(' '.join([*c.values, *(f for o in c.options for f in o.flags)]))} ;;"
        for c in commands
    )
    valued = {f: o for c in commands for o in c.options if o.has_value for f in o.flags}
    few = "\n".join(
        f'    {flag}) COMPREPLY=($(compgen -W {_quoted(" ".join(option.choices))} -- "$cur")); return ;;'
        for flag, option in valued.items()
        if option.choices
    )
    files = "|".join(flag for flag, option in valued.items() if not option.choices)
    nested = "|".join(sorted({c.words[0] for c in commands if len(c.words) > 1}))
    return f"""# edged completions bash > ~/.local/share/bash-completion/completions/edged
_edged() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} words
  COMPREPLY=()
  (( COMP_CWORD == 1 )) && command=
  case $prev in
{few}
    {files}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  case $command in
    {nested}) (( COMP_CWORD > 2 )) && command="$command ${{COMP_WORDS[2]}}" ;;
  esac
  case $command in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if (( ${{#COMPREPLY[@]}} == 0 )); then COMPREPLY=($(compgen -f -- "$cur")); fi
}}
complete -o filenames -F _edged edged
"""


def zsh(commands: list[Command]) -> str:
    cases = []
    for command in commands:
        if not command.words:
            continue
        specs = [_zsh_option(option) for option in command.options]
        specs.append(f"'1:value:({' '.join(command.values)})'" if command.values else "'*:file:_files'")
        cases.append(f"    {_quoted(' '.join(command.words))}) _arguments {' '.join(specs)} ;;")
    top = " ".join(_quoted(f"{c.words[0]}:{c.help}") for c in commands if len(c.words) == 1)
    nested = "|".join(sorted({c.words[0] for c in commands if len(c.words) > 1}))
    lines = "\n".join(cases)
    return f"""#compdef edged
# edged completions zsh > "${{fpath[1]}}/_edged"
_edged() {{
  local command=$words[2]
  local -a commands=({top})
  if (( CURRENT == 2 )); then _describe command commands; return; fi
  shift words; (( CURRENT-- ))
  case $command in
    {nested}) if (( CURRENT > 2 )); then command="$command $words[2]"; shift words; (( CURRENT-- )); fi ;;
  esac
  case $command in
{lines}
  esac
}}
if [[ $funcstack[1] == _edged ]]; then _edged "$@"; else compdef _edged edged; fi
"""


def _zsh_option(option: Option) -> str:
    said = option.help.replace("'", "").replace("[", "(").replace("]", ")").replace(":", ",").replace("%%", "%")
    value = (f":value:({' '.join(option.choices)})" if option.choices else ":file:_files") if option.has_value else ""
    one, *others = option.flags
    if not others:
        return f"'{one}[{said}]{value}'"
    return f"'({' '.join(option.flags)})'{{{','.join(option.flags)}}}'[{said}]{value}'"


def fish(commands: list[Command]) -> str:
    lines = ["# edged completions fish > ~/.config/fish/completions/edged.fish"]
    for command in commands:
        seen = " ; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.words)
        values = [c for c in commands if c.words[:-1] == command.words and c.words]
        inner = " ".join(c.words[-1] for c in values)
        not_yet = f"not __fish_seen_subcommand_from {inner}" if inner else ""
        here = " ; and ".join(part for part in (seen, not_yet) if part)
        condition = f"-n {_quoted(here)}" if here else ""
        lines += [f"complete -c edged -f {condition} -a {_quoted(c.words[-1])} -d {_quoted(c.help)}" for c in values]
        if not values and command.values:
            lines.append(f"complete -c edged -f {condition} -a {_quoted(' '.join(command.values))}")
        for option in command.options:
            flags = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in option.flags)
            value = f"-x -a {_quoted(' '.join(option.choices))}" if option.choices else "-r -F" if option.has_value else ""
            lines.append(f"complete -c edged {condition} {flags} {value} -d {_quoted(option.help)}")
    return "\n".join(" ".join(line.split()) for line in lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "") + "'"
