"""A device that runs shell commands and takes files, reached through the programs ``ssh`` or ``adb`` of this machine.

    ssh://[USER@]HOST[:PORT]/PATH   PATH is absolute; ssh://HOST/~/PATH is relative to the home folder
    adb[:SERIAL]                    the folder is /data/local/tmp/edgekit

Files travel over ssh as the input of ``cat``, so the device needs a shell and no scp or sftp.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from ..errors import PushError, TransferError, UsageError
from ..leftovers import locked_folder

ADB_FOLDER = "/data/local/tmp/edgekit"
_FORMS = "ssh://[USER@]HOST[:PORT]/PATH, adb, or adb:SERIAL"
_SSH_FAILED = 255  # the exit code of ssh itself
_ADB_FAILED = 1  # the exit code of adb itself; that of a command on the device may be the same
# How adb begins its messages; before version 1.0.40 with "error:", as other programs do.
_ADB_SAYS = re.compile(
    r"^(?:adb: .*|error: (?:device|no devices|more than one|closed|protocol|insufficient perm|cannot connect).*)",
    re.MULTILINE,
)
# ssh replaces % in the path of a socket and splits it at spaces. With "/edgekit-ssh-", 16 digits, "/c" and the 17
# characters that ssh appends while it binds the socket, the shortest limit, macOS's 103 bytes, leaves 55.
_SOCKET_FOLDER = re.compile(r"[A-Za-z0-9_./+-]{1,55}")


@dataclass(frozen=True)
class Output:
    """What a command on the device printed, and its exit code."""

    code: int
    stdout: str
    stderr: str


class Remote(Protocol):
    """A device."""

    @property
    def name(self) -> str:
        """What to call it in messages and in the name of its receipt."""
        ...

    @property
    def folder(self) -> str:
        """The folder on it that receives bundles, as a shell word."""
        ...

    def run(self, command: str) -> Output:
        """Run a shell command.

        Raises:
            PushError: The device cannot be reached.
        """
        ...

    def send(self, file: Path, target: str) -> None:
        """Write a file on the device; ``target`` is a shell word.

        Raises:
            PushError: The device cannot be reached.
            TransferError: The file was not written completely.
        """
        ...


@dataclass(frozen=True)
class SshRemote:
    """A device with an ssh server."""

    name: str
    folder: str
    command: tuple[str, ...]  # ssh with its options and the host
    check: tuple[str, ...]  # the same for a person, without the shared connection

    def run(self, command: str) -> Output:
        found = _run([*self.command, command])
        if found.code == _SSH_FAILED:
            raise self._unreachable(found.stderr)
        return found

    def send(self, file: Path, target: str) -> None:
        with file.open("rb") as content:
            done = subprocess.run([*self.command, f"cat > {target}"], stdin=content, capture_output=True)
        words = done.stderr.decode(errors="replace").strip()
        if done.returncode == _SSH_FAILED:
            raise TransferError(
                f"sending {file.name} to {self.name} was cut: {words or 'the connection was closed'}",
                hint="run the command again; it sends what is missing",
            )
        if done.returncode:
            raise TransferError(f"{file.name} cannot be written on {self.name}: {words}", hint="free space there")

    def _unreachable(self, words: str) -> PushError:
        last = words.strip().splitlines()[-1:] or ["ssh ended with exit code 255"]
        return PushError(
            f"cannot reach {self.name}: {last[0]}",
            hint=f"check that this works without a password: {shlex.join([*self.check, 'true'])}",
        )


@dataclass(frozen=True)
class AdbRemote:
    """An Android device."""

    name: str
    folder: str
    command: tuple[str, ...]  # adb, with the serial if one was named

    def run(self, command: str) -> Output:
        found = _run([*self.command, "shell", command])
        lost = _ADB_SAYS.search(found.stderr) if found.code == _ADB_FAILED else None
        if lost:
            raise PushError(
                f"cannot reach {self.name}: {lost[0]}",
                hint="adb devices lists what is connected; USB debugging must be allowed on the device",
            )
        return found

    def send(self, file: Path, target: str) -> None:
        (path,) = shlex.split(target)
        found = _run([*self.command, "push", str(file), path])
        if found.code:
            words = (found.stderr or found.stdout).strip().splitlines()[-1:] or ["adb push failed"]
            raise TransferError(
                f"sending {file.name} to {self.name} failed: {words[0]}",
                hint="run the command again; it sends what is missing",
            )


def check_address(address: str) -> None:
    """Check an address before any work. Nothing is connected.

    Raises:
        UsageError: The address has another form.
        PushError: ssh or adb is not installed.
    """
    if address.split(":")[0] == "adb":
        _serial(address)
        _program("adb")
    else:
        _parse_ssh(address)
        _program("ssh")


@contextlib.contextmanager
def connect(address: str) -> Iterator[Remote]:
    """The device at an address. Its connection is closed when the block ends.

    Raises:
        UsageError, PushError: As :func:`check_address`.
    """
    check_address(address)
    if address.split(":")[0] == "adb":
        serial = _serial(address)
        named = ("-s", serial) if serial else ()
        yield AdbRemote(address, ADB_FOLDER, (_program("adb"), *named))
        return
    host, port, folder, name = _parse_ssh(address)
    with _control_folder() as control:
        # BatchMode fails where ssh would ask for a password.
        options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"]
        if control is not None:  # one connection for all commands
            options += ["-o", "ControlMaster=auto", "-o", f"ControlPath={control}/c", "-o", "ControlPersist=60"]
        at = ("-p", str(port)) if port else ()
        command = (_program("ssh"), *options, *at)
        check = ("ssh", "-o", "BatchMode=yes", *at, "--", host)
        try:
            yield SshRemote(name, folder, (*command, "--", host), check)
        finally:
            if control is not None:
                subprocess.run([*command, "-O", "exit", "--", host], capture_output=True)


@contextlib.contextmanager
def _control_folder() -> Iterator[Path | None]:
    """A folder for the socket of the shared connection; None where there is none that ssh can use."""
    with contextlib.ExitStack() as stack:
        yield _enter_control_folder(stack)


def _enter_control_folder(stack: contextlib.ExitStack) -> Path | None:
    if os.name != "posix":
        return None  # ssh on Windows cannot share a connection
    parents = ["/tmp"]  # noqa: S108  (the folder in it gets a random name)
    with contextlib.suppress(OSError):
        parents.append(tempfile.gettempdir())
    for parent in filter(_SOCKET_FOLDER.fullmatch, parents):
        with contextlib.suppress(OSError):  # it is not there, or cannot be written
            return stack.enter_context(locked_folder(Path(parent), "edgekit-ssh-"))
    return None


def _serial(address: str) -> str:
    """The serial of adb:SERIAL; empty for adb alone."""
    if address.endswith(":"):
        raise UsageError(f"--push {address!r} lacks the serial; allowed: {_FORMS}")
    return address[4:]


def _parse_ssh(address: str) -> tuple[str, int | None, str, str]:
    """Host with user, port, the folder as a shell word, and the host's name."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--push {address!r} is not valid: {error}; allowed: {_FORMS}") from None
    name = _host(parts.netloc)
    if parts.scheme != "ssh" or not name or parts.query or parts.fragment or parts.password:
        raise UsageError(f"--push {address!r} is not valid; allowed: {_FORMS}")
    path = unquote(parts.path)
    if len(path.strip("/~")) == 0:
        raise UsageError(f"--push {address!r} names no folder; for example ssh://{parts.netloc}/~/edgekit")
    home = path.startswith("/~/")
    folder = "~/" + shlex.quote(path[3:].rstrip("/")) if home else shlex.quote(path.rstrip("/"))
    host = f"{unquote(parts.username)}@{name}" if parts.username else name
    return host, port, folder, name


def _host(netloc: str) -> str:
    """The host of an address as it was written, for ssh_config distinguishes cases; empty if it is not valid."""
    written = netloc.rpartition("@")[2]
    _, bracket, inside = written.partition("[")
    host = unquote(inside.partition("]")[0] if bracket else written.partition(":")[0])
    return "" if re.search(r"[\s/\\]", host) else host


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        package = {"ssh": "openssh-client", "adb": "adb (Android platform tools)"}[name]
        raise PushError(f"pushing a bundle needs the program {name}, which is not installed", hint=f"install {package}")
    return found


def _run(command: list[str]) -> Output:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    return Output(done.returncode, done.stdout, done.stderr)
