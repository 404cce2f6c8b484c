"""The tensors of a repository: from its index and one header, or from the header of its only file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from raw_safetensors import save_tensors

from edgekit.checkpoint import hub_tensors as module
from edgekit.checkpoint.hub import HubFiles
from edgekit.checkpoint.hub_tensors import hub_tensors
from edgekit.errors import CorruptFileError

CODES = {"a.qweight": np.zeros((4, 8), np.int32), "a.scales": np.zeros((1, 64), np.float16)}
NORM = {"norm.weight": np.ones(8, np.float32)}
Ranges = list[tuple[str, int, int]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Ranges]:
    """Play the hub from a folder; return the list of byte ranges that will have been fetched."""

    def start() -> Ranges:
        ranges: Ranges = []

        def fetch(repository: str, commit: str, file: str, start: int, stop: int) -> bytes:
            ranges.append((file, start, stop))
            return (tmp_path / file).read_bytes()[start:stop]

        monkeypatch.setattr(module, "fetch_hub_bytes", fetch)
        names = tuple(sorted(path.name for path in tmp_path.iterdir()))
        monkeypatch.setattr(module, "list_hub", lambda repository, commit: HubFiles(repository, commit, names))
        return ranges

    return start


def write_index(folder: Path, **files: list[str]) -> None:
    weight_map = {tensor: f"{file}.safetensors" for file, tensors in files.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("name", ["model.safetensors", "gptq_model-4bit-128g.safetensors"])
def test_a_single_file(tmp_path: Path, serve: Callable[[], Ranges], name: str) -> None:
    save_tensors(tmp_path / name, CODES | NORM)
    ranges = serve()
    found = hub_tensors("a/b", "0", tmp_path)
    assert {n: (info.dtype, info.shape) for n, info in found.items()} == {
        "a.qweight": ("I32", (4, 8)), "a.scales": ("float16", (1, 64)), "norm.weight": ("float32", (8,)),
    }  # fmt: skip
    assert {file for file, _, _ in ranges} == {name}
    assert sum(stop - start for _, start, stop in ranges) < 1000


def test_an_index_and_the_header_of_the_first_file_with_codes(tmp_path: Path, serve: Callable[[], Ranges]) -> None:
    save_tensors(tmp_path / "one.safetensors", NORM)
    save_tensors(tmp_path / "two.safetensors", CODES)
    write_index(tmp_path, one=["norm.weight"], two=[*CODES], zero=["b.qweight"])
    ranges = serve()
    found = hub_tensors("a/b", "0", tmp_path)
    assert set(found) == {"norm.weight", *CODES, "b.qweight"}
    assert found["a.qweight"].shape == (4, 8)
    assert (found["b.qweight"].dtype, found["norm.weight"].shape) == ("", ())
    assert {file for file, _, _ in ranges} == {"two.safetensors"}


def test_a_numbered_set_without_an_index(tmp_path: Path, serve: Callable[[], Ranges]) -> None:
    for i, tensors in enumerate((NORM, CODES, {"b.qweight": np.zeros((1, 1), np.int32)}), 1):
        save_tensors(tmp_path / f"model-0000{i}-of-00003.safetensors", tensors)
    serve()
    assert set(hub_tensors("a/b", "0", tmp_path)) == {*NORM, *CODES}, "the third header is not needed"


def test_files_that_are_not_fetched_are_not_looked_at(tmp_path: Path, serve: Callable[[], Ranges]) -> None:
    (tmp_path / "consolidated.safetensors").write_bytes(b"x")
    save_tensors(tmp_path / "weights.safetensors", NORM)
    serve()
    assert set(hub_tensors("a/b", "0", tmp_path)) == set(NORM)
    (tmp_path / "weights.safetensors").unlink()
    serve()
    assert hub_tensors("a/b", "0", tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a safetensors file"),
        (b"version https://git-lfs", "is not a safetensors file: it begins with b'version '"),
        ((100).to_bytes(8, "little") + b"{}", "ends within its header: 2 of 100 bytes are there"),
        ((2).to_bytes(8, "little") + b"[]", "the header of a/b, model.safetensors"),
        ((9).to_bytes(8, "little") + b'{"a": {}}', "tensor 'a': its header entry must have exactly"),
    ],
)
def test_a_damaged_header(tmp_path: Path, serve: Callable[[], Ranges], content: bytes, words: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    serve()
    with pytest.raises(CorruptFileError, match=words):
        hub_tensors("a/b", "0", tmp_path)
