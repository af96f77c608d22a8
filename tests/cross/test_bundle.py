"""What goes into a bundle and how it is written; no network. `tests/devices` builds and installs whole ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cross.bundle import FILE_KEYS, main, named_files, of_configuration, write
from cross.target import Refused
from edged.config import schema
from edged.config.toml.document import parse
from tests.support import models

CONFIG = """
[source.accel]
type = "replay"
path = "recordings/run7.rec"
decode = { format = "csv", fields = ["x"] }
[broker.main]
url = "mqtt://localhost"
ca = "/etc/ssl/plant-ca.pem"
password = { file = "password" }
[model.motor]
path = "models/motor"
labels = ["ok", "worn"]
[model.bare]
path = "bare.onnx"
[pipeline.motor]
source = "accel"
preprocess = ["detrend", "steps.py:features"]
postprocess = "more/steps.py:scale"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The configuration, all that it names, and what is not to be brought along."""
    for place in ("recordings/run7.rec", "steps.py", "more/steps.py", "models/motor/model.onnx", "models/motor/model.toml"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(place)
    for place in ("password", "models/motor/.hidden", "models/motor/__pycache__/a.pyc", "models/other.onnx", "notes.txt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("not to be seen")
    models.external(tmp_path / "bare.onnx", "bare.weights")
    (tmp_path / "laptop.toml").write_text(CONFIG)
    return tmp_path


def test_what_a_configuration_names_goes_along_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = of_configuration(folder / "laptop.toml")
    beside = {"bare.onnx", "bare.weights"}
    assert set(files) == {
        *("edged.toml", "recordings/run7.rec", "steps.py", "more/steps.py", "models/motor/model.onnx", "models/motor/model.toml"),
        *beside,
    }
    assert files["edged.toml"] == folder / "laptop.toml"
    assert "must be on the device: /etc/ssl/plant-ca.pem (broker.main.ca)" in capsys.readouterr().err


def test_every_key_of_the_schema_that_names_a_file_is_known() -> None:
    read = {("Broker", "ca"), ("Broker", "cert"), ("ReplaySource", "path"), ("Fleet", "signed_by"), ("Fleet", "ca")}
    read |= {("Model", key) for key in ("path", "labels", "ca", "schema")} | {("DecodedSource", "keys"), ("ModbusSource", "keys")}
    written = {("Device", "state_dir"), ("Spool", "path")}
    tables = [one for one in vars(schema).values() if isinstance(one, type) and issubclass(one, schema.Table)]
    found = {
        (t.__name__, key)
        for t in tables
        for key, kind in t.__annotations__.items()
        if re.search(r"\b(FilePath|SmallFile|Labels|JsonSchema|KeysOf)\b", kind)
    }
    assert found == read | written, (
        "a new key that names a file: add it to FILE_KEYS in cross/bundle.py, or here if edged writes to it"
    )
    assert len(FILE_KEYS) == len(read) - 1  # `keys` stands in two of them


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("gone.rec", "gone.rec is not there"),
        ("../run.rec", "lies outside the configuration's folder"),
    ],
)
def test_a_file_that_cannot_go_along_is_said(folder: Path, path: str, says: str) -> None:
    (folder / "laptop.toml").write_text(CONFIG.replace("recordings/run7.rec", path))
    with pytest.raises(Refused, match=f"source.accel.path: .*{says}"):
        of_configuration(folder / "laptop.toml")


def link_in_a_model(folder: Path) -> str:
    (folder / "models/motor/x.bin").symlink_to("/etc/shadow")
    return "models/motor/x.bin is a link: put the file itself there, or remove it"


def link_to_a_folder(folder: Path) -> str:
    (folder / "models/motor/more").symlink_to("/etc")
    return "models/motor/more is a link"


def link_to_the_file_beside(folder: Path) -> str:
    (folder / "models/motor/y.onnx").symlink_to("model.onnx")
    return "models/motor/y.onnx is a link"


def link_that_leads_nowhere(folder: Path) -> str:
    (folder / "models/motor/x.bin").symlink_to("gone")
    return "models/motor/x.bin is a link"


def link_as_the_model(folder: Path) -> str:
    (folder / "models/motor").rename(folder.parent / "elsewhere")
    (folder / "models/motor").symlink_to(folder.parent / "elsewhere")
    return "models/motor leads out of the configuration's folder by a link: put the file itself there"


def link_as_a_step(folder: Path) -> str:
    (folder / "steps.py").unlink()
    (folder / "steps.py").symlink_to("/etc/passwd")
    return "steps.py leads out of the configuration's folder"


def pipe_in_a_model(folder: Path) -> str:
    os.mkfifo(folder / "models/motor/pipe")
    return "models/motor/pipe is not a plain file"


def pipe_as_a_recording(folder: Path) -> str:
    (folder / "recordings/run7.rec").unlink()
    os.mkfifo(folder / "recordings/run7.rec")
    return "recordings/run7.rec is not a plain file"


LINKS = [
    *(link_in_a_model, link_to_a_folder, link_to_the_file_beside, link_that_leads_nowhere, link_as_the_model, link_as_a_step),
    *(pipe_in_a_model, pipe_as_a_recording),
]


@pytest.mark.parametrize("put", LINKS)
def test_what_is_no_file_of_the_folder_does_not_go_along(put: Callable[[Path], str], folder: Path) -> None:
    says = put(folder)
    with pytest.raises(Refused, match=re.escape(says)):
        of_configuration(folder / "laptop.toml")


def test_a_link_within_the_folder_may_name_the_model(folder: Path) -> None:
    (folder / "models/motor").rename(folder / "models/v3")
    (folder / "models/motor").symlink_to("v3")
    files = of_configuration(folder / "laptop.toml")
    assert files["models/motor/model.onnx"].read_text() == "models/motor/model.onnx"


def test_a_configuration_that_cannot_be_read_is_said(folder: Path) -> None:
    (folder / "laptop.toml").write_text("[device\n")
    with pytest.raises(Refused, match=r"laptop\.toml:1:8: "):
        of_configuration(folder / "laptop.toml")
    with pytest.raises(Refused, match="no such file"):
        of_configuration(folder / "edged.toml")


def test_names_of_models_and_topics_are_no_files() -> None:
    values = parse('[pipeline.a]\nsource = "b.py"\nmodel = "c"\n[source.b]\ntopic = "x/steps.py:no/y"\n').values
    assert named_files(values) == set()
    assert named_files(parse("model = 3\nsource = { a = 4, b = { path = 5 } }").values) == set()


def test_the_same_files_make_the_same_bundle(tmp_path: Path) -> None:
    made = []
    for number, umask in enumerate((0o022, 0o077)):
        before = os.umask(umask)
        try:
            source = tmp_path / f"source{number}"
            source.mkdir()
            for name in ("b", "a") if number else ("a", "b"):
                (source / name).write_text(name)
                os.utime(source / name, (number, number))
            files: dict[str, Path | bytes] = {"wheels/" + "x" * 120: source / "a", "install": source / "b", "about": b"c"}
            files["config/m/install"] = b"d"
            made.append(write(dict(sorted(files.items(), reverse=bool(number))), "edged-1-t", tmp_path / f"out{number}"))
        finally:
            os.umask(before)
    assert made[0].name == made[1].name
    assert made[0].read_bytes() == made[1].read_bytes()
    with tarfile.open(made[0]) as tar:
        assert {(e.uid, e.gid, e.uname, e.mtime) for e in tar} == {(0, 0, "", 315532800)}
        assert {e.name.partition("/")[2]: e.mode for e in tar if "wheels" not in e.name} == {
            "about": 0o644,
            "config": 0o750,
            "config/m": 0o750,
            "config/m/install": 0o640,
            "install": 0o755,
            "manifest": 0o644,
        }
    assert {one.stat().st_mode & 0o777 for one in made} == {0o640}
    for folder in (one.with_suffix("") for one in made):
        places = (folder / "config", folder / "config/m", folder / "config/m/install", folder / "install")
        assert [place.stat().st_mode & 0o777 for place in places] == [0o750, 0o750, 0o640, 0o755]
    assert (
        subprocess.run(["sha256sum", "--check", "--strict", "manifest"], cwd=folder, capture_output=True, check=False).returncode
        == 0
    )


def test_a_key_signs_the_manifest_and_the_rest_stays_the_same(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    signed = [write({"about": b"x"}, "b", tmp_path / name, str(tmp_path / "key")) for name in ("one", "two")]
    assert signed[0].read_bytes() == signed[1].read_bytes()
    assert signed[0].name == write({"about": b"x"}, "b", tmp_path / "three").name
    with pytest.raises(Refused, match=r"SIGN=.*does not sign"):
        write({"about": b"x"}, "b", tmp_path / "four", str(tmp_path / "no-key"))
    assert not list((tmp_path / "four").iterdir())


def test_a_name_that_a_manifest_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="such a name"):
        write({"config/a\nb": b"x"}, "b", tmp_path)


def test_what_cannot_be_built_is_one_line_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["toaster"]) == 1
    assert capsys.readouterr().err.startswith("bundle: there is no target toaster; there are debian-amd64, ")
    assert main(["pi5", "--system", "jessie"]) == 1
    assert "set SYSTEM to one of them" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_says_which_targets_there_are() -> None:
    root = Path(__file__).parents[2]
    made = subprocess.run(["make", "--dry-run", "bundle", "TARGET=pi5"], cwd=root, capture_output=True, text=True, check=False)
    assert 'cross.bundle "pi5"' in made.stdout, made.stderr
