"""Checkpoints on the hub before their weights are fetched: what they say is what the checkpoints say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_awq import TinyAwq
from tiny_checkpoint import write_checkpoint
from tiny_gptq import TinyGptq

from edgekit.checkpoint import hub_tensors, open_checkpoint, preview
from edgekit.checkpoint.hub import HubFiles
from edgekit.checkpoint.preview import preview_hub
from edgekit.errors import CheckpointError, TruncatedFileError, UnsupportedModelError
from edgekit.models import spec_from_config

COMMIT = "0" * 40


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[tuple[str, int, int]]]:
    """Play the hub from a folder; return the list of byte ranges that will have been fetched."""

    def start(folder: Path) -> list[tuple[str, int, int]]:
        ranges: list[tuple[str, int, int]] = []

        def fetch(repository: str, revision: str, file: str, start: int, stop: int) -> bytes:
            content = (folder / file).read_bytes()[start:stop]
            ranges.append((file, start, start + len(content)))
            return content

        monkeypatch.setattr(preview, "fetch_hub_bytes", fetch)
        monkeypatch.setattr(preview, "fetch_hub_description", lambda *_: folder)
        names = tuple(path.name for path in folder.iterdir())
        monkeypatch.setattr(hub_tensors, "fetch_hub_bytes", fetch)
        monkeypatch.setattr(hub_tensors, "list_hub", lambda *_: HubFiles("a/b", COMMIT, names))
        return ranges

    return start


def test_a_float_checkpoint(tmp_path: Path, serve: Callable[[Path], object]) -> None:
    folder = write_checkpoint(tmp_path, "qwen2")
    serve(folder)
    found = preview_hub("a/b", COMMIT)
    with open_checkpoint(folder) as opened:
        assert (found.config, found.format, dict(found.tokenizer)) == (
            opened.config,
            "huggingface",
            {**opened.tokenizer},
        )
    assert found.quantized_format("model.layers.0.mlp.up_proj.weight") is None


@pytest.mark.parametrize(
    "tiny",
    [
        TinyGptq(group_size=64, symmetric=False, lm_head=True),
        TinyGptq(group_size=-1, bits=8),
        TinyGptq(
            float_modules=("1.mlp.down_proj",),
            quantize_config={"dynamic": {"-:.*1.mlp.down_proj": {}}},
            model={"head_dim": 16},
        ),
        TinyAwq(group_size=64),
        TinyAwq(group_size=-1),
        TinyAwq(zero_point=False, float_modules=("1.mlp.down_proj",)),
    ],
)
def test_the_formats_of_a_quantized_checkpoint(
    tmp_path: Path, serve: Callable[[Path], object], tiny: TinyGptq | TinyAwq
) -> None:
    folder = tiny.write(tmp_path)
    serve(folder)
    found = preview_hub("a/b", COMMIT)
    with open_checkpoint(folder) as opened:
        assert found.holds_codes
        assert found.format == opened.format
        assert found.quantization == opened.quantization
        for ref in spec_from_config(opened.config).tensors():
            expected, planned = opened.quantized_format(ref.name), found.quantized_format(ref.name)
            assert (expected is None) is (planned is None), ref.name
            if expected is not None and planned is not None:
                assert (expected.bits, expected.symmetric) == (planned.bits, planned.symmetric)
                np.testing.assert_array_equal(expected.groups, planned.groups)


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 3, "group_size": 32, "rotation": "hadamard"}  # nothing that could be read


@pytest.mark.parametrize("described", [AWQ, GPTQ, {"quant_method": "bitsandbytes"}])
@pytest.mark.parametrize("where", ["config", "quantize_config"])
def test_float_weights_with_a_leftover_description(
    tmp_path: Path, serve: Callable[[Path], object], described: dict[str, Any], where: str
) -> None:
    folder = write_checkpoint(tmp_path, "qwen2", **({"quantization_config": described} if where == "config" else {}))
    if where != "config":
        (folder / "quantize_config.json").write_text(json.dumps(described))
    serve(folder)
    found = preview_hub("a/b", COMMIT)
    with open_checkpoint(folder) as opened:
        assert (found.format, found.holds_codes, found.quantization) == ("huggingface", False, opened.quantization)
        assert found.notes == opened.notes
        assert "but the weights are float" in found.notes[0]


@pytest.mark.parametrize("group_size", [16, 256])
def test_groups_that_an_artifact_cannot_hold(tmp_path: Path, serve: Callable[[Path], object], group_size: int) -> None:
    """Groups of 16 are quantized again; a group of 256 holds all inputs of some linears and a part of none."""
    folder = TinyAwq(group_size=group_size).write(tmp_path)
    serve(folder)
    found = preview_hub("a/b", COMMIT)
    with open_checkpoint(folder) as opened:
        assert (found.format, found.holds_codes) == ("awq", opened.holds_codes)
        assert found.holds_codes is (group_size != 16)


def test_weights_in_a_format_that_is_not_read_are_told_before_they_are_fetched(
    tmp_path: Path, serve: Callable[[Path], object]
) -> None:
    folder = write_checkpoint(tmp_path, "llama", {"a.B": np.zeros((2, 2), np.int32)}, quantization_config=AWQ)
    serve(folder)
    messages = []
    for read in (lambda: preview_hub("a/b", COMMIT), lambda: open_checkpoint(folder)):
        with pytest.raises(
            UnsupportedModelError, match=r"already quantized \(Marlin; told by the tensor a\.B"
        ) as caught:
            read()
        messages.append(caught.value.message.replace(str(folder), "a/b"))
    assert messages[0] == messages[1]


def test_the_header_of_a_gguf_file(
    tmp_path: Path,
    serve: Callable[[Path], list[tuple[str, int, int]]],
    write_gguf: Callable[..., Path],
    tiny_metadata: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    big = np.zeros((4096, 32), np.float32)
    factors = np.arange(1, 5, dtype=np.float32)
    tensors = {
        "rope_freqs.weight": ("F32", (4,), factors.tobytes()),
        "token_embd.weight": ("F32", big.shape, big.tobytes()),
        "output.weight": ("F32", big.shape, (big + 1).tobytes()),
    }
    write_gguf(tmp_path / "m.gguf", tiny_metadata, tensors)
    monkeypatch.setattr(preview, "_FIRST_BYTES", 1024)  # smaller than the header
    ranges = serve(tmp_path)
    found = preview_hub("a/b", COMMIT, "m.gguf")
    with open_checkpoint(tmp_path / "m.gguf") as opened:
        assert (found.config, found.format) == (opened.config, "gguf")
        assert found.config["rope_scaling"]["factors"] == factors.tolist()
        assert found.config["tie_word_embeddings"] is False
        assert found.tokenizer.special == opened.tokenizer.special
    assert len(ranges) > 2
    assert sum(stop - start for _, start, stop in ranges) < 40_000


def test_a_split_gguf_file(
    tmp_path: Path, serve: Callable[[Path], object], write_gguf: Callable[..., Path], tiny_metadata: dict[str, Any]
) -> None:
    """Whether lm_head has a table of its own is known from the second part."""
    table = np.zeros((262, 32), np.float32)
    first, second = (f"m-0000{i}-of-00002.gguf" for i in (1, 2))
    write_gguf(tmp_path / first, tiny_metadata, {"token_embd.weight": ("F32", table.shape, table.tobytes())})
    write_gguf(tmp_path / second, {"split.no": 1}, {"output.weight": ("F32", table.shape, table.tobytes())})
    serve(tmp_path)
    assert preview_hub("a/b", COMMIT, first).config["tie_word_embeddings"] is False


def test_rotary_factors_in_another_part(
    tmp_path: Path, serve: Callable[[Path], object], write_gguf: Callable[..., Path], tiny_metadata: dict[str, Any]
) -> None:
    table, factors = np.zeros((262, 32), np.float32), np.arange(1, 5, dtype=np.float32)
    first, second = (f"m-0000{i}-of-00002.gguf" for i in (1, 2))
    write_gguf(tmp_path / first, tiny_metadata, {"token_embd.weight": ("F32", table.shape, table.tobytes())})
    more = {
        "output.weight": ("F32", table.shape, table.tobytes()),
        "rope_freqs.weight": ("F32", (4,), factors.tobytes()),
    }
    write_gguf(tmp_path / second, {"split.no": 1}, more)
    serve(tmp_path)
    assert preview_hub("a/b", COMMIT, first).config["rope_scaling"]["factors"] == factors.tolist()


def test_a_header_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    serve: Callable[[Path], list[tuple[str, int, int]]],
    write_gguf: Callable[..., Path],
    tiny_metadata: dict[str, Any],
) -> None:
    monkeypatch.setattr(preview, "_FIRST_BYTES", 100)
    monkeypatch.setattr(preview, "_MOST_BYTES", 1000)
    write_gguf(tmp_path / "m.gguf", tiny_metadata, {})
    ranges = serve(tmp_path)
    with pytest.raises(CheckpointError, match=r"a/b, m\.gguf: its header is longer than"):
        preview_hub("a/b", COMMIT, "m.gguf")
    assert ranges[-1][2] == 800


def test_a_file_that_ends_in_its_header(
    tmp_path: Path, serve: Callable[[Path], object], write_gguf: Callable[..., Path], tiny_metadata: dict[str, Any]
) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_metadata, {})
    path.write_bytes(path.read_bytes()[:2000])
    serve(tmp_path)
    with pytest.raises(TruncatedFileError):
        preview_hub("a/b", COMMIT, "m.gguf")
