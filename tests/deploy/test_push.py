"""A push to a device that is a folder of this machine: only what changed travels, and every fault has its error."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bundles import quantized_artifact, stand_in
from receipts import receipt

from edgekit.deploy.bundle import SUMS, Bundle, make_bundle
from edgekit.deploy.push import push
from edgekit.deploy.remote import Output, connect
from edgekit.devices import load_device
from edgekit.errors import DiskFullError, PushError, TransferError

JETSON = load_device("jetson")


@dataclass
class FolderRemote:
    """A device that is a folder; ``commands`` stand before each command, to give it other programs."""

    folder: str
    commands: str = "uname() { echo aarch64; }; grep() { echo 'Features : asimd asimddp'; };"
    name: str = "here"
    damage: Callable[[Path], None] = lambda path: None
    sent: list[str] = field(default_factory=list)

    def run(self, command: str) -> Output:
        done = subprocess.run(["sh", "-c", f"{self.commands} {command}"], capture_output=True, text=True)
        return Output(done.returncode, done.stdout, done.stderr)

    def send(self, file: Path, target: str) -> None:
        (path,) = shlex.split(target)
        Path(path).write_bytes(file.read_bytes())
        self.sent.append(file.name)
        self.damage(Path(path))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return made(tmp_path)


def made(tmp_path: Path, **options: int | str) -> Bundle:
    artifact = tmp_path / "tiny"
    if not artifact.exists():
        quantized_artifact(artifact)
    native = stand_in(tmp_path / "native", **options)  # type: ignore[arg-type]
    with make_bundle(artifact, JETSON, tmp_path / "out", native=native) as bundle:
        return bundle


@pytest.fixture
def remote(tmp_path: Path) -> FolderRemote:
    return FolderRemote(shlex.quote(str(tmp_path / "the device")))


def test_all_files_arrive_and_the_receipt_comes_home(bundle: Bundle, remote: FolderRemote, tmp_path: Path) -> None:
    pushed = push(bundle, remote)
    there = tmp_path / "the device" / bundle.name
    assert pushed.folder == str(there)
    assert set(pushed.sent) == {*bundle.files, SUMS}
    assert pushed.sent_bytes == bundle.size_bytes
    assert pushed.receipt == receipt(artifact="tiny")
    found = {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()}
    assert found == {*bundle.files, SUMS, "receipt.json"}
    assert subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=there).returncode == 0


def test_a_second_push_sends_only_what_changed(bundle: Bundle, remote: FolderRemote, tmp_path: Path) -> None:
    push(bundle, remote)
    remote.sent.clear()
    assert push(bundle, remote).sent == ()
    header = tmp_path / "out" / "include" / "edgekit.h"
    header.write_text("changed\n")
    digest = subprocess.run(["sha256sum", header], capture_output=True, text=True).stdout[:64]
    changed = {**bundle.files, "include/edgekit.h": digest}
    assert push(Bundle(bundle.folder, bundle.name, bundle.machine, changed), remote).sent == ("include/edgekit.h",)
    assert remote.sent == ["edgekit.h"]


def test_the_signature_of_a_bundle_travels(bundle: Bundle, remote: FolderRemote, tmp_path: Path) -> None:
    (bundle.folder / "SHA256SUMS.sig").write_bytes(b"signature")
    assert "SHA256SUMS.sig" in push(bundle, remote).sent
    assert (tmp_path / "the device" / bundle.name / "SHA256SUMS.sig").read_bytes() == b"signature"


def test_files_of_an_earlier_bundle_are_removed(bundle: Bundle, remote: FolderRemote, tmp_path: Path) -> None:
    push(bundle, remote)
    there = tmp_path / "the device" / bundle.name
    (there / "artifact" / "old.bin").write_text("old")
    (there / "notes.txt").write_text("the user's own")
    (there / "SHA256SUMS.sig").write_text("of the earlier bundle")
    assert push(bundle, remote).removed == ("SHA256SUMS.sig", "artifact/old.bin")
    assert not (there / "artifact" / "old.bin").exists()
    assert (there / "notes.txt").exists()


def test_folders_of_an_earlier_bundle_are_removed(bundle: Bundle, remote: FolderRemote, tmp_path: Path) -> None:
    push(bundle, remote)
    artifact = tmp_path / "the device" / bundle.name / "artifact"
    (artifact / "onnx" / "deep").mkdir(parents=True)
    (artifact / "onnx" / "deep" / "old.bin").write_text("old")
    assert push(bundle, remote).removed == ("artifact/onnx/deep/old.bin",)
    assert not (artifact / "onnx").exists()
    assert (artifact / "edgekit.json").exists()


@pytest.mark.parametrize("start", ["echo 'Welcome { to board 7'; echo", "printf '\\033]0;board\\007{'"])
def test_what_the_start_of_the_shell_prints_is_not_read(bundle: Bundle, remote: FolderRemote, start: str) -> None:
    remote.commands += f"{start};"
    assert push(bundle, remote).receipt.passed
    assert push(bundle, remote).sent == ()


def test_a_damaged_transfer_is_found_and_the_next_push_repairs_it(
    bundle: Bundle, remote: FolderRemote, tmp_path: Path
) -> None:
    remote.damage = lambda path: path.write_bytes(b"cut") if "model.onnx.data" in path.name else None
    with pytest.raises(TransferError, match=r"model\.onnx\.data did not arrive on here as it was sent"):
        push(bundle, remote)
    there = tmp_path / "the device" / bundle.name
    assert not (there / "artifact" / "model.onnx.data").exists()
    remote.damage = lambda path: None
    assert push(bundle, remote).receipt.passed


def test_a_push_that_was_cut_goes_on(bundle: Bundle, remote: FolderRemote, tmp_path: Path) -> None:
    def cut(path: Path) -> None:
        if "edgekit-run" in path.name:
            path.write_bytes(b"cut")
            raise TransferError("the connection was closed")

    remote.damage = cut
    with pytest.raises(TransferError):
        push(bundle, remote)
    there = tmp_path / "the device" / bundle.name
    assert (there / "artifact" / "model.onnx.data.edgekit-partial").exists()
    (there / "artifact" / "old.bin.edgekit-partial").write_text("of an earlier bundle")
    remote.damage, sent = lambda path: None, remote.sent[:-1]  # the last one was cut
    remote.sent.clear()
    # Beside what has arrived, the device has space for what is missing, once the useless files are deleted.
    remote.commands += "df() { if [ -e artifact/old.bin.edgekit-partial ]; then echo /dev/x 9 9 10 9% /; "
    remote.commands += "else echo /dev/x 9 9 4000 9% /; fi; };"
    pushed = push(bundle, remote)
    assert "model.onnx.data" in sent
    assert set(sent).isdisjoint(remote.sent)
    assert [Path(name).name for name in pushed.sent] == remote.sent
    assert pushed.sent_bytes == sum((bundle.folder / name).stat().st_size for name in pushed.sent)
    assert not list(there.rglob("*.edgekit-partial"))
    assert subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=there).returncode == 0


@pytest.mark.parametrize(
    ("commands", "error", "message"),
    [
        ("uname() { echo x86_64; };", PushError, "here is x86_64, and the bundle's program is for aarch64"),
        ("uname() { echo armv7l; };", PushError, "here is armv7l"),
        ("df() { echo /dev/x 100 90 10 90% /; };", DiskFullError, "here has 10.2 kB free"),
        ("command() { return 1; };", PushError, "here has no program sha256sum"),
        ("mkdir() { echo no such disk >&2; return 1; };", PushError, "cannot make the folder .*: no such disk"),
    ],
)
def test_what_is_wrong_with_the_device_is_said(
    bundle: Bundle, remote: FolderRemote, commands: str, error: type[Exception], message: str
) -> None:
    remote.commands += commands
    with pytest.raises(error, match=message):
        push(bundle, remote)
    assert remote.sent == []


def test_a_processor_without_dot_products_gets_a_word(bundle: Bundle, remote: FolderRemote) -> None:
    assert push(bundle, remote).notes == ()
    remote.commands = "uname() { echo aarch64; }; grep() { echo 'Features : fp asimd'; };"
    assert "the portable kernel runs" in push(bundle, remote).notes[0]


def test_a_failed_smoke_test_over_adb_has_a_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    for name, value in {"ADB_ROOT": str(tmp_path / "root"), "ADB_SERIAL": "R5CT"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adb").symlink_to(Path(__file__).parents[1] / "support" / "adb")
    (tmp_path / "bin" / "uname").write_text("#!/bin/sh\necho aarch64\n")
    (tmp_path / "bin" / "uname").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with connect("adb") as remote:
        assert (
            push(made(tmp_path, code=62, says="error: tiny failed its smoke test"), remote).receipt.artifact == "tiny"
        )
        for code in (1, 70):
            crashed = made(tmp_path, code=code, says="error: not enough memory")
            with pytest.raises(PushError, match=f"ended with exit code {code}: error: not enough memory"):
                push(crashed, remote)


def test_a_failed_smoke_test_has_a_receipt_and_a_crash_is_an_error(remote: FolderRemote, tmp_path: Path) -> None:
    assert push(made(tmp_path, code=62), remote).receipt.artifact == "tiny"
    with pytest.raises(PushError, match="the smoke test on here ended with exit code 132") as caught:
        push(made(tmp_path, code=132), remote)
    assert "smoke.sh" in caught.value.hint
