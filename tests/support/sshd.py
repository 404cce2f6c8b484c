"""An ssh server on this machine, which the current user runs, and a client that knows it.

The server looks like an ARM board: its ``uname`` says aarch64, and EDGEKIT_RUNNER is qemu, which runs ARM code.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_WAIT_S = 20


@contextmanager
def ssh_server(folder: Path, machine: str, runner: str) -> Iterator[int]:
    """Run a server with its own keys and configuration.

    Args:
        folder: Receives them, and ``bin/ssh``: put that folder first in PATH.
        machine: What ``uname -m`` prints there.
        runner: EDGEKIT_RUNNER there.

    Yields:
        The port.
    """
    assert SSHD is not None
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd as root wants it
    _script(folder / "there" / "uname", f'[ "$1" = -m ] && echo {machine} || exec /usr/bin/env -i /bin/uname "$@"')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/client.pub\nPasswordAuthentication no\n"
        f"SetEnv EDGEKIT_RUNNER={runner} PATH={folder}/there:/usr/local/bin:/usr/bin:/bin\n"
    )
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder}/client\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
        "StrictHostKeyChecking accept-new\nLogLevel ERROR\n"
    )
    _script(folder / "bin" / "ssh", f'exec {shutil.which("ssh")} -F {folder}/ssh_config "$@"')
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        _wait(server, port)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(_WAIT_S * 10):
        assert server.poll() is None, "sshd ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("sshd does not answer")


def _script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
