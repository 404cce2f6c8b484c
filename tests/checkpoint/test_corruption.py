"""Opening and reading a damaged file either works or raises a CheckpointError, never another exception."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.checkpoint import open_checkpoint
from edgekit.errors import CheckpointError

# A change: its position (a fraction of the region), its kind, and the byte or length that it uses.
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "delete", "insert", "cut", "huge"]), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def corrupt(content, region, changes):
    """Apply changes to the first ``region`` bytes."""
    for where, what, value in changes:
        at = int(where * (min(region, len(content)) - 1)) if content else 0
        if what == "set":
            content = content[:at] + bytes([value]) + content[at + 1 :]
        elif what == "delete":
            content = content[:at] + content[at + value :]
        elif what == "insert":
            content = content[:at] + bytes([value]) * (1 + value % 9) + content[at:]
        elif what == "cut":
            content = content[:at]
        else:
            content = content[:at] + b"\xff" * 8 + content[at + 8 :]
    return content


def open_and_read_everything(path):
    """Read everything; True if the file could be opened and has a usable tokenizer."""
    try:
        with open_checkpoint(path) as checkpoint:
            for name, info in checkpoint.tensors.items():
                with contextlib.suppress(CheckpointError):
                    checkpoint.rows(name, 0, info.shape[0] if info.shape else 0)
            _ = checkpoint.tokenizer
    except CheckpointError:
        return False
    return True


def test_undamaged_files_are_read(tiny_folder, tiny_gguf):
    assert open_and_read_everything(tiny_folder)
    assert open_and_read_everything(tiny_gguf)


@pytest.mark.parametrize("region", ["header", "metadata", "tensors"])
def test_gguf(tiny_gguf, region):
    good = tiny_gguf.read_bytes()
    tensors = good.index(b"token_embd.weight") - 8
    start, size = {"header": (0, 200), "metadata": (24, tensors), "tensors": (tensors, 200)}[region]

    @SETTINGS
    @given(CHANGES)
    def check(changes):
        tiny_gguf.write_bytes(good[:start] + corrupt(good[start:], size, changes))
        open_and_read_everything(tiny_gguf)

    check()


def test_safetensors(tiny_folder):
    path = tiny_folder / "model.safetensors"
    good = path.read_bytes()

    @SETTINGS
    @given(CHANGES)
    def check(changes):
        path.write_bytes(corrupt(good, 8 + int.from_bytes(good[:8], "little"), changes))
        open_and_read_everything(tiny_folder)

    check()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_json_files(tiny_folder, name):
    good = (tiny_folder / name).read_bytes()

    @SETTINGS
    @given(CHANGES)
    def check(changes):
        (tiny_folder / name).write_bytes(corrupt(good, len(good), changes))
        open_and_read_everything(tiny_folder)

    check()


@SETTINGS
@given(st.binary(max_size=300), st.sampled_from([b"", b"GGUF", b"GGUF\x03\x00\x00\x00"]))
def test_noise(noise, start):
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "noise").write_bytes(start + noise)
        assert not open_and_read_everything(folder / "noise")
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(noise)
        assert not open_and_read_everything(folder)
    finally:
        shutil.rmtree(folder)
