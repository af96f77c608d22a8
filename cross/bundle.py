"""Builds a bundle: everything one kind of device needs to run edged, in one file that is installed there without network.

README.md beside this file says what is in it and what `install` does with it. What goes in is decided first, as a table of names
and files; then it is written, in the same order and with the same times wherever it is built.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from cross import target as targets
from cross import wheels
from cross.target import Refused, System, Target
from edged import __version__
from edged.config.toml.document import SyntaxProblem, parse
from edged.model.onnx_file import read_onnx
from edged.system.process import complain, say

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
SPARE_MIB = 24
"""What an estimate of the room on a disk may be wrong by."""

FILE_KEYS = (
    *(("model", key) for key in ("path", "labels", "ca", "schema")),
    *(("source", key) for key in ("path", "keys")),
    *(("broker", key) for key in ("ca", "cert")),
    *(("fleet", key) for key in ("signed_by", "ca")),
)
"""Where in `[kind.name]`, or in `[kind]`, a configuration names files that it needs at its start, besides functions
(`file.py:function`)."""
PROGRAMS = ("install", "verify")
STEP = re.compile(r"(.+\.py):\w+")

Files = dict[str, Path | bytes]
"""What is at a place of the bundle: a file, or these bytes."""


def build(target: Target, system: System, out: Path, config: Path | None = None, given: str = "", sign: str = "") -> Path:
    """Makes `out/NAME/` and `out/NAME.tar`; gives back the latter. Raises Refused."""
    cache = BUILD / "wheels"
    cache.mkdir(parents=True, exist_ok=True)
    lines = wheels.pins(wheels.RUN.read_text(), target, system)
    brought = wheels.download(lines, wheels.for_device(target, system), cache)
    brought += [*wheels.gpu_wheel(target, system, given, cache), wheels.own(__version__, cache)]
    for wheel in brought:
        if bad := wheels.too_fine(wheel, target.page_kib):
            raise Refused(
                f"{wheel.name} cannot be loaded where pages have {target.page_kib} KiB, as on {target.name}: {', '.join(bad)}"
            )
    pip = [wheel for wheel in wheels.tool_wheels(cache) if wheel.name.startswith("pip-")]
    files: Files = {f"wheels/{wheel.name}": wheel for wheel in (*brought, *pip)}
    files["requirements.txt"] = "".join(f"{wheels.pin(wheel)}\n" for wheel in sorted(brought)).encode()
    files |= {name: ROOT / "cross" / name for name in PROGRAMS}
    files |= {f"systemd/{name}": file for name, file in _below(ROOT / "systemd")}
    if config is not None:
        files |= {f"config/{name}": file for name, file in of_configuration(config).items()}
    files["about"] = _about(target, system, brought, files)
    return write(files, f"edged-{__version__}-{target.name}-{system.name}", out, sign)


def _about(target: Target, system: System, brought: list[Path], files: Files) -> bytes:
    """What `install` and the deployment look at, a line each."""
    rest = sum(len(_bytes(part)) for name, part in files.items() if not name.startswith("wheels/"))
    needs = (wheels.installed_bytes(brought) + rest >> 20) + SPARE_MIB
    facts = {
        "version": __version__,
        "target": target.name,
        "system": system.name,
        "machine": target.machine,
        "python": system.python,
        "glibc": wheels.needed_glibc(brought),
        "gpu": target.gpu.package if target.gpu else "none",
        "needs_mib": needs,
    }
    return "".join(f"{key}={value}\n" for key, value in facts.items()).encode()


def of_configuration(config: Path) -> dict[str, Path]:
    """A configuration and the files that it names below its own folder, at the places where it names them."""
    try:
        values = parse(config.read_text("utf-8")).values
    except OSError as error:
        raise Refused(f"CONFIG={config}: {(error.strerror or 'cannot be read').lower()}") from None
    except UnicodeDecodeError:
        raise Refused(f"CONFIG={config} is not UTF-8 text") from None
    except SyntaxProblem as error:
        raise Refused(f"{config}:{error.line}:{error.column}: {error.text}") from None
    files = {"edged.toml": config}
    for key, named in sorted(named_files(values)):
        if PurePosixPath(named).is_absolute():
            complain(f"not in the bundle, must be on the device: {named} ({key})")
        elif ".." in PurePosixPath(named).parts:
            raise Refused(
                f"{config}: {key}: {named} lies outside the configuration's folder: move it there, or give its whole path"
            )
        elif not (config.parent / named).exists():
            raise Refused(f"{config}: {key}: {config.parent / named} is not there: correct the path or bring the file")
        elif not (config.parent / named).resolve().is_relative_to(config.parent.resolve()):
            raise Refused(
                f"{config}: {key}: {named} leads out of the configuration's folder by a link: put the file itself there"
            )
        else:
            files |= _whole(config.parent / named, named)
    return files


def named_files(values: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Keys and the paths at them."""
    found = {
        (".".join(filter(None, (kind, name, key))), table[key])
        for kind, key in FILE_KEYS
        for name, table in _tables(values.get(kind))
        if isinstance(table.get(key), str)
    }
    return found | {(key, step[1]) for key, text in _texts(values, "") if (step := STEP.fullmatch(text))}


def _tables(kind: Any) -> list[tuple[str, dict[str, Any]]]:
    """Those by name, or the one that has none; what is wrong with others is for `edged check` to say."""
    if not isinstance(kind, dict):
        return []
    return [(name, table) for name, table in kind.items() if isinstance(table, dict)] or [("", kind)]


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{number}]")


def _whole(path: Path, named: str) -> dict[str, Path]:
    """A file, a folder, or a model with the files of its weights."""
    place = PurePosixPath(named)
    if path.is_dir():
        return {str(place / name): file for name, file in _below(path)}
    _plain(path.resolve())
    beside: tuple[Path, ...] = ()
    if path.suffix == ".onnx":
        try:
            beside = read_onnx(path).external_files
        except ValueError as error:
            raise Refused(f"{path}: {error}") from None
    return {str(place): path} | {str(place.parent / file.relative_to(path.parent).as_posix()): _plain(file) for file in beside}


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a folder, without hidden ones and what Python leaves."""
    for file in sorted(folder.rglob("*")):
        place = file.relative_to(folder)
        if not any(part.startswith(".") or part == "__pycache__" for part in place.parts) and not _is_folder(file):
            yield place.as_posix(), _plain(file)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _plain(file: Path) -> Path:
    """The file itself: a link in a model that somebody else made could bring any file of this machine along."""
    if file.is_symlink() or not file.is_file():
        raise Refused(
            f"{file} is {'a link' if file.is_symlink() else 'not a plain file'}: put the file itself there, or remove it"
        )
    return file


# Writing it


def write(files: Files, stem: str, out: Path, sign: str = "") -> Path:
    """The folder and the file; what is there under these names is of the same content and is replaced."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = listing(files)
    name = f"{stem}-{hashlib.sha256(manifest).hexdigest()[:12]}"
    with TemporaryDirectory(dir=out) as work:
        new = Path(work) / name
        for place, part in {**files, "manifest": manifest}.items():
            (new / place).parent.mkdir(parents=True, exist_ok=True)
            (new / place).write_bytes(_bytes(part))
            (new / place).chmod(_mode(place))
        for folder in _closed_folders(files):
            (new / folder).chmod(CLOSED_FOLDER)
        if sign:
            _sign(new / "manifest", sign)
        packed = Path(work) / f"{name}.tar"
        pack(new, packed)
        packed.chmod(0o640)
        shutil.rmtree(out / name, ignore_errors=True)
        new.rename(out / name)
        return packed.rename(out / f"{name}.tar")


def listing(files: Files) -> bytes:
    """The manifest, as sha256sum writes and checks it."""
    lines = []
    for place in sorted(files):
        if re.search(r"[\n\r\\]", place):
            raise Refused(f"{place!r}: a file with such a name cannot be brought along")
        lines.append(f"{hashlib.sha256(_bytes(files[place])).hexdigest()}  {place}\n")
    return "".join(lines).encode()


def pack(folder: Path, packed: Path) -> None:
    """A tar that depends on names and contents only."""
    with tarfile.open(packed, "w", format=tarfile.GNU_FORMAT) as tar:
        for file in sorted(folder.rglob("*")):
            place = file.relative_to(folder).as_posix()
            entry = tarfile.TarInfo(f"{folder.name}/{place}")
            entry.mtime = 315532800
            if file.is_file():
                data = file.read_bytes()
                entry.size, entry.mode = len(data), _mode(place)
                tar.addfile(entry, io.BytesIO(data))
            elif _is_closed(place):
                entry.type, entry.mode = tarfile.DIRTYPE, CLOSED_FOLDER
                tar.addfile(entry)


CLOSED_FOLDER = 0o750


def _is_closed(place: str) -> bool:
    """The configuration: there may be passwords in it."""
    return PurePosixPath(place).parts[0] == "config"


def _closed_folders(files: Files) -> set[str]:
    return {str(folder) for place in files if _is_closed(place) for folder in PurePosixPath(place).parents if str(folder) != "."}


def _mode(place: str) -> int:
    return 0o755 if place in PROGRAMS else 0o640 if _is_closed(place) else 0o644


def _bytes(part: Path | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.read_bytes()


def _sign(manifest: Path, key: str) -> None:
    """Leaves `manifest.sig` beside it. ssh-keygen asks for a passphrase itself."""
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", os.path.expanduser(key), "-n", "edged-bundle", str(manifest)]
    try:
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError:
        raise Refused("SIGN needs ssh-keygen, which is not here: install openssh-client") from None
    if ended.returncode:
        raise Refused(f"SIGN={key}: ssh-keygen does not sign with it: {ended.stderr.strip()}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cross.bundle", description="Everything a device needs, in one file.")
    parser.add_argument("target", help=", ".join(targets.names()))
    parser.add_argument("--system", default="", help="which of the target's systems, by name or Python")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration to bring along")
    parser.add_argument("--wheels", default="", metavar="FOLDER|INDEX", help="where the GPU's wheel is")
    parser.add_argument("--sign", default="", metavar="KEY", help="an ssh key that signs the manifest")
    parser.add_argument("--out", type=Path, default=BUILD / "bundles", metavar="FOLDER")
    asked = parser.parse_args(argv)
    try:
        target = targets.read(asked.target)
        made = build(target, target.system(asked.system), asked.out, asked.config, asked.wheels, asked.sign)
    except Refused as refused:
        complain(f"bundle: {refused}")
        return 1
    say(str(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
