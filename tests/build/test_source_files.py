"""The files of a source, and what tells one from another: two adapters have files of the same names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import write_checkpoint
from tiny_lora import factors, write_adapter

from edgekit.build.adapters import merge, open_adapters
from edgekit.build.pipeline import build
from edgekit.build.source_files import source_files, source_key
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import DiscardedStateWarning, InterruptedBuildError
from edgekit.scheme import QuantizationOverrides

DOWN, UP = "model.layers.0.mlp.down_proj", "model.layers.1.mlp.up_proj"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "base")


@pytest.fixture
def adapters(tmp_path: Path) -> list[Path]:
    one = write_adapter(tmp_path / "one", factors(DOWN, 144, 200))
    return [one, write_adapter(tmp_path / "two", factors(UP, 200, 144, seed=1))]


def opened(base: Path, adapters: list[Path], look: Callable[[Any], Any]) -> Any:
    with ExitStack() as stack:
        checkpoint = stack.enter_context(open_checkpoint(base))
        return look(merge(checkpoint, open_adapters(adapters, stack)))


def configure(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_every_file_of_every_adapter_has_a_name(base: Path, adapters: list[Path]) -> None:
    assert opened(base, [], source_files) == {"model.safetensors": base / "model.safetensors"}
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert opened(base, adapters, source_files) == {
        "model.safetensors": base / "model.safetensors",
        **{f"adapters/{i}/{name}": folder / name for i, folder in enumerate(adapters) for name in names},
    }


def test_a_change_of_any_file_changes_the_key(base: Path, adapters: list[Path]) -> None:
    key = opened(base, adapters, source_key)
    assert opened(base, adapters, source_key) == key
    assert json.loads(json.dumps(key)) == key
    for path in (base / "model.safetensors", *(folder / "adapter_model.safetensors" for folder in adapters)):
        os.utime(path, ns=(0, 12345))
        changed = opened(base, adapters, source_key)
        assert changed != key
        key = changed
    assert opened(base, adapters[::-1], source_key) != key
    assert opened(base, adapters[:1], source_key) != key


@pytest.mark.parametrize(
    "change",
    [
        {"lora_alpha": 2},
        {"use_rslora": True},
        {"alpha_pattern": {"down_proj": 1, ".*": 2}},
        {"alpha_pattern": {"up_proj": 1, "down_proj": 3}},
    ],
)
def test_the_configuration_of_an_adapter_is_part_of_the_key(
    base: Path, adapters: list[Path], change: dict[str, Any]
) -> None:
    configure(adapters[0], alpha_pattern={"down_proj": 3, "up_proj": 1})
    key = opened(base, adapters, source_key)
    configure(adapters[0], **change)
    # Neither the time of the change nor the order of JSON's keys decides: the last case differs in the order alone.
    assert opened(base, adapters, source_key)["adapters"] != key["adapters"]


def test_the_description_of_quantized_weights_is_part_of_the_key(base: Path) -> None:
    with open_checkpoint(base) as checkpoint:
        key = source_key(checkpoint)
        checkpoint.quantization = {"weight_scale_semantics": "inverse"}
        assert source_key(checkpoint) != key


def test_a_calibration_of_another_alpha_is_not_resumed(base: Path, adapters: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The capital of France is Paris. " * 60)

    def run(name: str, stop: bool = False) -> bytes:
        def progress(phase: str, done: float, total: float) -> None:
            if stop and phase == "calibrating layers" and done >= 1.8:
                raise KeyboardInterrupt

        result = build(
            base, "cpu", lora=adapters, out=tmp_path / name, gate=False, calibration=tmp_path / "text.txt",
            calibration_tokens=128, quantization=QuantizationOverrides(method="gptq"), progress=progress,
        )  # fmt: skip
        return (result.artifact / "model.onnx.data").read_bytes()

    with pytest.raises(InterruptedBuildError):
        run("resumed", stop=True)
    configure(adapters[0], lora_alpha=1)
    with pytest.warns(DiscardedStateWarning, match="of another calibration"):
        resumed = run("resumed")
    assert resumed == run("fresh")
