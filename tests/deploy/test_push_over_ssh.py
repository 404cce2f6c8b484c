"""A push over a real ssh server to a machine that runs ARM code: bundle, transfer, smoke test, receipt, repair."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import SSHD, ssh_server
from tiny_checkpoint import write_checkpoint

from edgekit.build.pipeline import build
from edgekit.deploy.bundle import SUMS, Bundle, make_bundle
from edgekit.deploy.compile import compile_native
from edgekit.deploy.device_files import device_files
from edgekit.deploy.push import push
from edgekit.deploy.remote import connect
from edgekit.devices import load_device
from edgekit.errors import MissingPackageError, PushError

QEMU = shutil.which("qemu-aarch64-static")
JETSON = load_device("jetson")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="needs openssh-server"),
    pytest.mark.skipif(QEMU is None, reason="needs qemu-user-static"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    kept = Path(os.environ.get("EDGEKIT_TEST_NATIVE") or folder / "native")
    try:
        native = device_files(JETSON, lambda target: compile_native(target, kept))
    except MissingPackageError as error:
        pytest.skip(error.message)
    artifact = build(None, "jetson", checkpoint=write_checkpoint(folder / "tiny", "qwen2"), out=folder / "a").artifact
    with make_bundle(artifact, JETSON, folder / "out", native=native) as bundle:
        return bundle


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the server is; its folder is ``tmp_path / "device"``."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with ssh_server(tmp_path, "aarch64", str(QEMU)) as port:
        yield f"ssh://127.0.0.1:{port}{tmp_path}/device"


def test_arm_code_passes_the_smoke_test_and_a_second_push_sends_what_changed(
    bundle: Bundle, address: str, tmp_path: Path
) -> None:
    with connect(address) as remote:
        first = push(bundle, remote)
        assert set(first.sent) == {*bundle.files, SUMS}
        assert first.receipt.passed
        assert (first.receipt.program, first.receipt.host.machine) == ("edgekit-run", "aarch64")
        assert first.receipt.kernel.startswith("neon")
        assert first.receipt.device == JETSON.name
        there = tmp_path / "device" / bundle.name
        (there / "artifact" / "model.onnx.data").write_bytes(b"cut")
        second = push(bundle, remote)
        assert second.sent == ("artifact/model.onnx.data",)
        assert second.receipt.passed
        assert push(bundle, remote, sustain_s=0.5).receipt.sustained is not None


def test_a_server_that_is_not_there_is_an_error(bundle: Bundle, address: str) -> None:
    host, _, _ = address.rpartition(":")
    with connect(f"{host}:1/tmp/device") as remote, pytest.raises(PushError, match=r"cannot reach 127\.0\.0\.1"):
        push(bundle, remote)


def test_another_architecture_is_an_error(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with (
        ssh_server(tmp_path, "armv7l", "") as port,
        connect(f"ssh://127.0.0.1:{port}{tmp_path}/device") as remote,
        pytest.raises(PushError, match=r"127\.0\.0\.1 is armv7l, and the bundle's program is for aarch64"),
    ):
        push(bundle, remote)
