"""Addresses of devices, and what ssh and adb say when a device is not there."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from edgekit.deploy import remote as module
from edgekit.deploy.remote import AdbRemote, Remote, SshRemote, check_address, connect
from edgekit.errors import PushError, TransferError, UsageError

ADB = Path(__file__).parents[1] / "support"
TARGET = "/data/local/tmp/edgekit/x"


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of the device of the stand-in adb."""
    monkeypatch.setenv("PATH", f"{ADB}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ADB_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("ADB_SERIAL", "R5CT")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def program(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "ssh").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "ssh").chmod(0o755)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose ssh prints its arguments."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    program(tmp_path / "bin", 'for each in "$@"; do printf "[%s]" "$each"; done')
    return tmp_path / "bin"


def opened(address: str) -> Remote:
    with connect(address) as remote:
        return remote


@pytest.mark.parametrize(
    ("address", "host", "port", "folder"),
    [
        ("ssh://jetson/opt/models", "jetson", None, "/opt/models"),
        ("ssh://me@10.0.0.7:2222/~/my%20models/", "me@10.0.0.7", "2222", "~/'my models'"),
        ("ssh://[::1]/opt", "::1", None, "/opt"),
        ("ssh://me@[fe80::1%25usb0]:2222/opt", "me@fe80::1%usb0", "2222", "/opt"),
        ("ssh://Jetson-Lab/opt", "Jetson-Lab", None, "/opt"),
        ("ssh://me%40work@Jetson/opt", "me@work@Jetson", None, "/opt"),
    ],
)
def test_an_address_names_host_port_and_folder(
    ssh: Path, address: str, host: str, port: str | None, folder: str
) -> None:
    remote = opened(address)
    assert isinstance(remote, SshRemote)
    assert remote.folder == folder
    said = remote.run("uname -m").stdout
    assert said.endswith(f"[--][{host}][uname -m]")
    assert (f"[-p][{port}]" in said) == (port is not None)
    assert "[BatchMode=yes]" in said


@pytest.mark.parametrize(
    "address", ["jetson", "ssh://", "ssh://host", "ssh://host/", "ssh://host/~/", "ssh://me:secret@host/x",
                "ssh://host:port/x", "ssh://a%2Fb/x", "http://host/x", "adb:", "adbx"],
)  # fmt: skip
def test_another_form_is_an_error(ssh: Path, address: str) -> None:
    with pytest.raises(UsageError, match="--push"):
        opened(address)
    with pytest.raises(UsageError, match="--push"):
        check_address(address)


def test_an_address_without_a_folder_is_completed(ssh: Path) -> None:
    for given in ("", "/", "/~", "/~/"):
        with pytest.raises(UsageError, match=r"names no folder; for example ssh://me@Jetson:22/~/edgekit$"):
            check_address(f"ssh://me@Jetson:22{given}")


def test_the_shared_connection_works_wherever_temporary_files_are(
    ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a b", "100%h", "long" * 20):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
        said = opened("ssh://jetson/opt").run("true").stdout
        (path,) = re.findall(r"\[ControlPath=(.*?)\]", said)
        assert re.fullmatch(r"/\w+/edgekit-ssh-[0-9a-f]{16}/c", path)
        assert not Path(path).parent.exists(), "it is removed at the end"
        with monkeypatch.context() as patch:
            patch.setattr(module, "locked_folder", refuse)
            assert "Control" not in opened("ssh://jetson/opt").run("true").stdout


def refuse(parent: Path, stem: str) -> NoReturn:
    raise PermissionError(13, "Permission denied")


def test_a_program_that_is_missing_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for address in ("adb", "adb:R5CT", "ssh://jetson/opt"):
        with pytest.raises(PushError, match="which is not installed"):
            check_address(address)


def test_an_unreachable_host_is_an_error(ssh: Path, tmp_path: Path) -> None:
    program(ssh, "echo 'ssh: connect to host jetson port 22: Connection refused' >&2; exit 255")
    remote = opened("ssh://jetson/opt")
    with pytest.raises(PushError, match=r"cannot reach jetson: ssh: connect to host .* Connection refused") as caught:
        remote.run("true")
    # The connection of the push is gone when a person reads this.
    assert caught.value.hint == "check that this works without a password: ssh -o BatchMode=yes -- jetson true"
    with pytest.raises(TransferError, match="was cut"):
        remote.send(Path(__file__), "/opt/x")


def test_a_file_that_cannot_be_written_is_an_error(ssh: Path) -> None:
    program(ssh, "echo 'No space left on device' >&2; exit 1")
    with pytest.raises(TransferError, match=r"test_remote\.py cannot be written on jetson: No space left"):
        opened("ssh://jetson/opt").send(Path(__file__), "/opt/x")


@pytest.mark.parametrize("address", ["ssh://jetson/opt", "adb"])
def test_a_missing_program_is_an_error(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PushError, match="which is not installed"):
        opened(address)


@pytest.mark.parametrize("address", ["adb", "adb:R5CT"])
def test_adb_runs_commands_and_sends_files(adb: Path, address: str) -> None:
    remote = opened(address)
    assert isinstance(remote, AdbRemote)
    assert (remote.name, remote.folder) == (address, "/data/local/tmp/edgekit")
    assert remote.run(f"mkdir -p {remote.folder}; echo there; exit 3").stdout == "there\n"
    assert remote.run("exit 3").code == 3
    remote.send(Path(__file__), TARGET)
    assert (adb / "edgekit" / "x").read_bytes() == Path(__file__).read_bytes()


@pytest.mark.parametrize(
    ("code", "words", "is_lost"),
    [
        (1, "adb: no devices/emulators found", True),
        (1, "* daemon started successfully\nerror: device offline", True),
        (1, "error: not enough space in the program", False),
        (62, "error: tiny failed its smoke test", False),
        (62, "adb: odd", False),
    ],
)
def test_errors_of_programs_on_the_device_are_not_those_of_adb(
    tmp_path: Path, code: int, words: str, is_lost: bool
) -> None:
    program = tmp_path / "adb"
    program.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit {code}\n")
    program.chmod(0o755)
    remote = AdbRemote("adb", "/data", (str(program),))
    if is_lost:
        with pytest.raises(PushError, match="cannot reach adb: "):
            remote.run("true")
    else:
        assert remote.run("true").code == code


def test_a_device_that_adb_does_not_see_is_an_error(adb: Path) -> None:
    remote = opened("adb:OTHER")
    with pytest.raises(PushError, match="cannot reach adb:OTHER: adb: device 'OTHER' not found"):
        remote.run("true")
    with pytest.raises(TransferError, match=r"sending test_remote\.py to adb:OTHER failed"):
        remote.send(Path(__file__), TARGET)
