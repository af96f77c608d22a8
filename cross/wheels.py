"""The wheels of a bundle: those that requirements/run.txt pins, for another machine than this one, and edged's own.

pip does the choosing and the downloading; what it is told here does not depend on the machine that it runs on.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from cross.cuda_code import architectures, runs_on
from cross.target import Refused, System, Target

ROOT = Path(__file__).parents[1]
RUN = ROOT / "requirements" / "run.txt"
TOOLS = ROOT / "requirements" / "bundle.txt"
OLDEST_GLIBC = 17
PT_LOAD = 1
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file; a zip knows none that is older."""


def pins(text: str, target: Target, system: System) -> list[str]:
    """The lines of a requirements file that hold on a device, in one line each and without their conditions."""
    where = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{system.python}.0",
        "python_version": system.python,
        "sys_platform": "linux",
    }
    replaced = {_name(line) for line in target.instead}
    if target.gpu:
        replaced.add("onnxruntime")
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        wanted, *hashes = line.split(" --hash=")
        one = Requirement(wanted.strip())
        if canonicalize_name(one.name) not in replaced and (one.marker is None or one.marker.evaluate(where)):
            lines.append(" --hash=".join([f"{one.name}{one.specifier}", *(h.strip() for h in hashes)]))
    return [*lines, *target.instead]


def _name(pin: str) -> str:
    return canonicalize_name(Requirement(pin.partition(" --hash=")[0]).name)


def for_device(target: Target, system: System) -> list[str]:
    """pip's words for a device, whatever this machine is."""
    newest = int(system.glibc.partition(".")[2])
    platforms = [f"manylinux_2_{minor}_{target.machine}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
    platforms += [f"manylinux2014_{target.machine}", f"linux_{target.machine}"]
    abis = [f"cp{system.python.replace('.', '')}", "abi3", "none"]
    words = ["--only-binary=:all:", "--implementation", "cp", "--python-version", system.python]
    return [*words, *(f"--platform={one}" for one in platforms), *(f"--abi={one}" for one in abis)]


def download(lines: list[str], words: list[str], cache: Path) -> list[Path]:
    """One wheel a pin, with its hash. What was downloaded before, for the same pins and words, is taken from the cache."""
    folder = cache / hashlib.sha256("\n".join([*lines, *words]).encode()).hexdigest()[:16]
    if not folder.exists():
        with TemporaryDirectory(dir=cache) as work:
            pinned, made = Path(work, "pins.txt"), Path(work, "wheels")
            pinned.write_text("".join(f"{line}\n" for line in lines))
            _pip("download", "--no-deps", "--require-hashes", "--dest", str(made), *words, "-r", str(pinned))
            if not folder.exists():  # another one may have been as quick
                made.rename(folder)
    found = sorted(folder.glob("*.whl"))
    for wheel in found:
        if _sha256(wheel) not in " ".join(lines):
            raise Refused(f"{wheel} is not what was downloaded: remove {folder}")
    return found


def gpu_wheel(target: Target, system: System, given: str, cache: Path) -> list[Path]:
    """The wheel of the device's GPU, from the folder or index that the user names. Never one for processors only."""
    gpu = target.gpu
    if gpu is None:
        if given:
            raise Refused(f"target {target.name} has no GPU, so WHEELS={given} would not be used: leave it out")
        return []
    wanted, devices = f"{gpu.package} for Python {system.python} on {target.machine}", " or ".join(gpu.runs_on)
    if not given:
        raise Refused(
            f"target {target.name} needs {wanted} with code for {devices}, which is on no public index: set WHEELS to a folder "
            f"that holds it, or to the index that you trust for it; cross/targets/{target.name}.toml says more"
        )
    place = Path(given)
    if not place.is_dir() and "://" not in given:
        raise Refused(f"WHEELS={given} is neither a folder nor the address of an index")
    source = ["--no-index", "--find-links", given] if place.is_dir() else ["--index-url", given]
    with TemporaryDirectory(dir=cache) as work:
        try:
            _pip("download", "--no-deps", "--dest", work, *source, *for_device(target, system), gpu.package)
        except Refused as refused:
            raise Refused(f"WHEELS={given} has no {wanted} that pip takes:\n{refused}") from None
        [wheel] = Path(work).glob("*.whl")
        code = _cuda_code(wheel, Path(work))
        if not any(runs_on(code, device) for device in gpu.runs_on):
            has = f"has CUDA code for {', '.join(sorted(code))}" if code else "is for processors only"
            raise Refused(f"{wheel.name} {has}; target {target.name} needs it for {devices}: take another wheel or build one")
        return [_kept(wheel, cache)]


def _cuda_code(wheel: Path, work: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as packed:
        inside = [name for name in packed.namelist() if name.endswith("/libonnxruntime_providers_cuda.so")]
        return architectures(Path(packed.extract(inside[0], work))) if inside else set()


def own(version: str, cache: Path) -> Path:
    """edged's wheel, the same bytes whatever built it: made by pinned tools, of files with fixed times, and not compressed."""
    [tools] = [wheel for wheel in tool_wheels(cache) if wheel.name.startswith("setuptools-")]
    with TemporaryDirectory(dir=cache) as folder:
        work = Path(folder)
        shutil.copytree(ROOT / "edged", work / "edged", ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / file, work / file)
        zipfile.ZipFile(tools).extractall(work / "tools")
        (work / "made").mkdir()
        build = "import sys; sys.path.insert(0, 'tools'); from setuptools.build_meta import build_wheel; build_wheel('made')"
        _run([sys.executable, "-I", "-c", build], work)
        [made] = (work / "made").glob("*.whl")
        if str(parse_wheel_filename(made.name)[1]) != version:
            raise Refused(f"pyproject.toml builds {made.name}, edged says that it is {version}: give them one version")
        return _kept(_repacked(made, work / made.name), cache)


def tool_wheels(cache: Path) -> list[Path]:
    """pip, which goes along since a Debian without python3-venv has none, and setuptools, which stays here."""
    lines = [" ".join(line.split()) for line in TOOLS.read_text().replace("\\\n", " ").splitlines()]
    return download(lines, ["--only-binary=:all:"], cache)


def _kept(wheel: Path, cache: Path) -> Path:
    """By its content, since another one may have its name."""
    folder = cache / _sha256(wheel)[:16]
    folder.mkdir(exist_ok=True)
    return wheel.rename(folder / wheel.name)


def _repacked(wheel: Path, place: Path) -> Path:
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as new:
        for name in sorted(old.namelist()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            new.writestr(entry, old.read(name))
    return place


def needed_glibc(wheels: Iterable[Path]) -> str:
    """The oldest C library on which all of them run, by their names."""
    minors = [OLDEST_GLIBC]
    for wheel in wheels:
        tags = [tag.platform for tag in parse_wheel_filename(wheel.name)[3]]
        known = [int(found[1]) for tag in tags if (found := re.match(r"manylinux_2_(\d+)_", tag))]
        minors += [min(known)] if known else []
    return f"2.{max(minors)}"


def too_fine(wheel: Path, page_kib: int) -> list[str]:
    """The libraries in a wheel that are laid out for smaller pages: the system's loader refuses them."""
    found = []
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            with packed.open(name) as file:
                head = file.read(64)
                if head[:5] != b"\x7fELF\x02":
                    continue
                at, size, count = struct.unpack_from("<32xQ14xHH", head)
                table = file.read(at + size * count - 64)[at - 64 :]
            loads = [struct.unpack_from("<I44xQ", table, i * size) for i in range(count)]
            if any(kind == PT_LOAD and alignment < page_kib * 1024 for kind, alignment in loads):
                found.append(name)
    return found


def installed_bytes(wheels: Iterable[Path]) -> int:
    """On a disk with blocks of 4 KiB; Python's byte code takes about as much as its text."""
    blocks = 0
    for wheel in wheels:
        for entry in zipfile.ZipFile(wheel).infolist():
            blocks += -(-entry.file_size // 4096) * (2 if entry.filename.endswith(".py") else 1)
    return blocks * 4096


def pin(wheel: Path) -> str:
    """The line of requirements.txt for one wheel: no other file will do."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    return f"{name}=={version} --hash=sha256:{_sha256(wheel)}"


def _sha256(wheel: Path) -> str:
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def _pip(*words: str) -> None:
    _run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words], ROOT)


def _run(command: list[str], folder: Path) -> None:
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}
    ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Refused(f"{' '.join(command[:5])} ... ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}".rstrip())
