"""What `install` looks at before it touches anything: bundles without wheels, with `--check`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cross.bundle import ROOT, Files, write
from cross.device import bundle as receiving
from cross.device.words import Refused

USAGE, DAMAGED, UNFIT, UNWRITABLE = 64, 65, 69, 73
PYTHON = subprocess.run(
    ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=True
).stdout.strip()
ABOUT = {
    "version": "1.2",
    "target": "toaster",
    "system": "hot",
    "machine": os.uname().machine,
    "python": PYTHON,
    "glibc": "2.17",
    "needs_mib": "1",
}


def bundle(folder: Path, sign: str = "", **about: str) -> Path:
    facts = "".join(f"{key}={value}\n" for key, value in {**ABOUT, **about}.items())
    files: Files = {
        "about": facts.encode(),
        "install": ROOT / "cross" / "install",
        "verify": ROOT / "cross" / "verify",
        "wheels/a.whl": b"a",
        "config/edged.toml": b"c",
    }
    return write(files, "edged-1.2-toaster-hot", folder, sign).with_suffix("")


def install(bundle: Path, *words: str) -> tuple[int, str, str]:
    prefix = bundle.parent / "opt"
    command = ["sh", str(bundle / "install"), "--check", "--prefix", str(prefix), *words]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert not prefix.exists()
    return done.returncode, done.stdout, done.stderr


def test_a_whole_bundle_for_this_machine_fits(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    release = tmp_path / "opt" / "releases" / f"1.2-{made.name[-12:]}"
    assert install(made) == (0, f"{release}\n", "install: it fits\n")


def damage(made: Path) -> None:
    (made / "wheels" / "a.whl").write_bytes(b"b")


def lose(made: Path) -> None:
    (made / "config" / "edged.toml").unlink()


def add(made: Path) -> None:
    (made / "wheels" / "b.whl").write_bytes(b"b")


def link(made: Path) -> None:
    (made / "config" / "more").symlink_to("/etc")


def empty_the_list(made: Path) -> None:
    (made / "manifest").write_bytes(b"")


def lose_the_list(made: Path) -> None:
    (made / "manifest").unlink()


def lose_the_verifier(made: Path) -> None:
    (made / "verify").unlink()


def link_what_is_listed(made: Path) -> None:
    """Its content is right, today."""
    (made / "wheels" / "a.whl").rename(made.parent / "a.whl")
    (made / "wheels" / "a.whl").symlink_to(made.parent / "a.whl")


def put_a_pipe(made: Path) -> None:
    (made / "wheels" / "a.whl").unlink()
    os.mkfifo(made / "wheels" / "a.whl")


def steer_the_terminal(made: Path) -> None:
    """By the names of files, one of which is listed."""
    (made / "wheels" / "\x1b[2J.whl").write_bytes(b"b")
    with (made / "manifest").open("a") as manifest:
        manifest.write(f"{'0' * 64}  \x1b]0;owned\x07\n")


HARMS = [
    steer_the_terminal,
    damage,
    lose,
    add,
    link,
    empty_the_list,
    lose_the_list,
    lose_the_verifier,
    link_what_is_listed,
    put_a_pipe,
]


@pytest.mark.parametrize("harm", HARMS)
def test_a_bundle_that_is_not_whole_is_refused(harm: Callable[[Path], None], tmp_path: Path) -> None:
    made = bundle(tmp_path)
    harm(made)
    status, out, err = install(made)
    assert (status, out) == (DAMAGED, "")
    assert "unpack or copy it again" in err
    assert all(c.isprintable() or c == "\n" for c in err)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"machine": "vax"}, "the bundle is built for toaster, hot (vax): build it with another TARGET"),
        ({"python": "3.9"}, f"this device has Python {PYTHON}, the bundle is built for toaster, hot (Python 3.9)"),
        ({"glibc": "2.99"}, "the wheels need 2.99; the bundle is built for toaster, hot"),
    ],
)
def test_a_device_that_does_not_fit_is_told_why(about: dict[str, str], says: str, tmp_path: Path) -> None:
    status, out, err = install(bundle(tmp_path, **about))
    assert (status, out) == (UNFIT, "")
    assert says in err


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    status, _, err = install(bundle(tmp_path, needs_mib="99999999"))
    assert status == UNWRITABLE
    assert "99999999 are needed" in err


@pytest.mark.parametrize("words", [["--perhaps"], ["--signers", "here"], ["--signers", "/not/there"], ["--prefix"]])
def test_a_wrong_command_line_is_told(words: list[str], tmp_path: Path) -> None:
    assert install(bundle(tmp_path), *words)[0] == USAGE


def test_where_signers_are_listed_the_signature_must_be_of_one_of_them(tmp_path: Path) -> None:
    for name in ("ours", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"edged {(tmp_path / 'ours.pub').read_text()}")
    asked = ("--signers", str(signers))

    plain = bundle(tmp_path / "plain")
    assert install(plain)[0] == 0
    status, _, err = install(plain, *asked)
    assert (status, "build it with SIGN=key" in err) == (DAMAGED, True)
    assert install(bundle(tmp_path / "ours-signed", str(tmp_path / "ours")), *asked)[0] == 0
    assert install(bundle(tmp_path / "other-signed", str(tmp_path / "other")), *asked)[0] == DAMAGED

    changed = bundle(tmp_path / "changed", str(tmp_path / "ours"))
    text = (changed / "manifest").read_text()
    (changed / "manifest").write_text("".join(sorted(text.splitlines(keepends=True), reverse=True)))
    status, _, err = install(changed, *asked)
    assert (status, "the manifest was changed" in err) == (DAMAGED, True)


def test_an_altered_install_is_refused_by_the_verifier_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device, where the verifier lies from the first bundle on; with a signature not even a manifest that fits helps."""
    verify = tmp_path / "opt" / "verify"
    monkeypatch.setattr(receiving, "VERIFY", verify)
    monkeypatch.setattr(receiving, "WORK", tmp_path / "opt" / "deploy")
    verifier = (ROOT / "cross" / "verify").read_text()
    receiving.verify(bundle(tmp_path), verifier)
    assert verify.read_text() == verifier
    assert verify.stat().st_mode & 0o777 == 0o755

    trace = tmp_path / "it ran"
    altered = bundle(tmp_path / "altered")
    (altered / "install").write_text(f"touch '{trace}'\n")
    (altered / "verify").write_text(f"touch '{trace}'\n")
    with pytest.raises(Refused, match=r"nothing of the bundle was run: (?s:.*)verify: damaged or incomplete"):
        receiving.verify(altered, f"touch '{trace}'\n")  # the one that is there is asked

    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "ours")], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f"edged {(tmp_path / 'ours.pub').read_text()}")
    signed = bundle(tmp_path / "signed", str(tmp_path / "ours"))
    asked = ["sh", str(verify), "--signers", str(signers), str(signed)]
    assert subprocess.run(asked, check=False).returncode == 0
    (signed / "install").write_text(f"touch '{trace}'\n")
    listed = subprocess.run(["sha256sum", *LISTED], cwd=signed, capture_output=True, check=True).stdout
    (signed / "manifest").write_bytes(listed)
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, "the manifest was changed" in done.stderr) == (DAMAGED, True)
    assert not trace.exists()


LISTED = ("about", "config/edged.toml", "install", "verify", "wheels/a.whl")
