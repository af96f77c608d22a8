"""Which wheels a device gets: decided without network."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from cross import target, wheels
from cross.target import Gpu, Refused, System, Target

PI = Target("pi", "aarch64", (System("trixie", "3.13", "2.41"), System("bookworm", "3.11", "2.36")), None, ())
JETSON = Target(
    "jetson", "aarch64", (System("six", "3.10", "2.35"),), Gpu("onnxruntime-gpu", ("sm_87",)), ("numpy==1.26.4 --hash=sha256:77",)
)
PINS = """\
colorama==0.4 ; sys_platform == 'win32' \\
    --hash=sha256:00
numpy==2.2.6 ; python_full_version < '3.11' \\
    --hash=sha256:11 \\
    --hash=sha256:12
numpy==2.4.6 ; python_full_version == '3.11.*' \\
    --hash=sha256:22
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:33
onnxruntime==1.31.1 \\
    --hash=sha256:44
only-arm==1 ; platform_machine == 'aarch64' \\
    --hash=sha256:55
"""


@pytest.mark.parametrize(("system", "numpy"), [("3.13", "2.5.5 --hash=sha256:33"), ("bookworm", "2.4.6 --hash=sha256:22")])
def test_conditions_are_those_of_the_device(system: str, numpy: str) -> None:
    lines = wheels.pins(PINS, PI, PI.system(system))
    assert lines == [f"numpy=={numpy}", "onnxruntime==1.31.1 --hash=sha256:44", "only-arm==1 --hash=sha256:55"]


def test_a_target_with_a_gpu_gets_no_onnxruntime_for_processors_and_pins_of_its_own() -> None:
    assert wheels.pins(PINS, JETSON, JETSON.system("")) == ["only-arm==1 --hash=sha256:55", "numpy==1.26.4 --hash=sha256:77"]


@pytest.mark.parametrize("name", target.names())
def test_the_pins_of_each_target_are_whole(name: str) -> None:
    one = target.read(name)
    for system in one.systems:
        lines = wheels.pins(wheels.RUN.read_text(), one, system)
        names = [line.partition("==")[0] for line in lines]
        assert all("==" in line and " --hash=sha256:" in line and ";" not in line for line in lines)
        assert len(set(names)) == len(names)
        assert {"numpy", "uvloop", "msgspec", "paho-mqtt"} <= set(names)
        assert ("onnxruntime" in names) == (one.gpu is None)


def test_pip_is_told_of_the_device_and_nothing_of_this_machine() -> None:
    words = wheels.for_device(PI, PI.system("bookworm"))
    assert words[:5] == ["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.11"]
    assert words[5:7] == ["--platform=manylinux_2_36_aarch64", "--platform=manylinux_2_35_aarch64"]
    assert words[-3:] == ["--abi=cp311", "--abi=abi3", "--abi=none"]
    assert "--platform=manylinux_2_41_aarch64" not in words


def test_the_oldest_c_library_is_in_the_names() -> None:
    names = ["a-1-py3-none-any.whl", "b-1-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.manylinux_2_28_aarch64.whl"]
    assert wheels.needed_glibc(map(Path, names)) == "2.17"
    assert wheels.needed_glibc(map(Path, [*names, "c-1-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl"])) == "2.27"


def library(path: Path, *alignments: int) -> Path:
    """A wheel with a library of so many parts, far into the file."""
    head = bytearray(64)
    struct.pack_into("<32xQ14xHH", head, 0, 100, 56, len(alignments) + 1)
    head[:6] = b"\x7fELF\x02\x01"
    parts = [struct.pack("<I44xQ", 1, alignment) for alignment in alignments]
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("a/b.so", bytes(head) + bytes(36) + struct.pack("<I44xQ", 4, 8) + b"".join(parts) + bytes(9))
        wheel.writestr("a/b.py", "x = 1")
    return path


def test_a_library_for_smaller_pages_is_found(tmp_path: Path) -> None:
    wheel = library(tmp_path / "a.whl", 0x10000, 0x1000)
    assert wheels.too_fine(wheel, 4) == []
    assert wheels.too_fine(wheel, 16) == ["a/b.so"]
    assert wheels.too_fine(library(tmp_path / "b.whl", 0x10000), 64) == []


# The wheel of a GPU, from the user's own folder.


def cuda_library(*code: tuple[int, int]) -> bytes:
    """A library with one fat binary: kinds (1: to be translated, 2: binary) and architectures."""
    entries = b"".join(struct.pack("<HHIQ12xI32x", kind, 0x101, 64, 8, sm) + bytes(8) for kind, sm in code)
    return bytes(100) + bytes.fromhex("50ed55ba01001000") + struct.pack("<Q", len(entries)) + entries + bytes(50)


def gpu_wheel(folder: Path, library: bytes | None, python: str = "cp310") -> Path:
    made = folder / f"onnxruntime_gpu-1.23.0-{python}-{python}-linux_aarch64.whl"
    with zipfile.ZipFile(made, "w") as wheel:
        if library is not None:
            wheel.writestr("onnxruntime/capi/libonnxruntime_providers_cuda.so", library)
        wheel.writestr(
            "onnxruntime_gpu-1.23.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.23.0\n"
        )
        tag = f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {python}-{python}-linux_aarch64\n"
        wheel.writestr("onnxruntime_gpu-1.23.0.dist-info/WHEEL", tag)
        wheel.writestr("onnxruntime_gpu-1.23.0.dist-info/RECORD", "")
    return made


@pytest.mark.parametrize("code", [(2, 87), (1, 80)])
def test_a_wheel_with_code_for_the_device_is_taken(code: tuple[int, int], tmp_path: Path) -> None:
    given = gpu_wheel(tmp_path, cuda_library((2, 90), code))
    (tmp_path / "cache").mkdir()
    [taken] = wheels.gpu_wheel(JETSON, JETSON.system(""), str(tmp_path), tmp_path / "cache")
    assert (taken.name, taken.read_bytes()) == (given.name, given.read_bytes())


@pytest.mark.parametrize(
    ("library", "says"),
    [
        (cuda_library((2, 89), (2, 90), (1, 90)), "has CUDA code for compute_90, sm_89, sm_90; target jetson needs it for sm_87"),
        (None, "is for processors only"),
        (b"not a library", "is for processors only"),
    ],
)
def test_a_wheel_without_it_is_refused(library: bytes | None, says: str, tmp_path: Path) -> None:
    gpu_wheel(tmp_path, library)
    (tmp_path / "cache").mkdir()
    with pytest.raises(Refused, match=says):
        wheels.gpu_wheel(JETSON, JETSON.system(""), str(tmp_path), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_what_to_do_about_a_gpu_wheel_is_said(tmp_path: Path) -> None:
    system = JETSON.system("")
    with pytest.raises(Refused, match="set WHEELS to a folder that holds it"):
        wheels.gpu_wheel(JETSON, system, "", tmp_path)
    with pytest.raises(Refused, match="neither a folder nor the address of an index"):
        wheels.gpu_wheel(JETSON, system, str(tmp_path / "gone"), tmp_path)
    gpu_wheel(tmp_path, cuda_library((2, 87)), "cp312")
    with pytest.raises(Refused, match=r"has no onnxruntime-gpu for Python 3\.10 on aarch64"):
        wheels.gpu_wheel(JETSON, system, str(tmp_path), tmp_path)
    with pytest.raises(Refused, match="target pi has no GPU"):
        wheels.gpu_wheel(PI, PI.system(""), str(tmp_path), tmp_path)
    assert wheels.gpu_wheel(PI, PI.system(""), "", tmp_path) == []
