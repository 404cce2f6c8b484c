"""Execution providers: what the errors of onnxruntime mean, and sessions that do not start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from edgekit.errors import AcceleratorError, EngineError
from edgekit.runtime.provider import Provider, lacks_float16, one_line, open_session, out_of_memory


def _attach(ort: Any, options: Any, cpu_nodes: Sequence[str]) -> Sequence[str]:
    return ("CPUExecutionProvider",)


PRETENDED = Provider("FakeExecutionProvider", "Fake", 16, _attach, memory=("gpu", 0))


class Failing:
    """onnxruntime whose sessions fail with a text."""

    __version__ = "1.32.0"
    SessionOptions = ort.SessionOptions

    def __init__(self, text: str) -> None:
        self._text = text

    def InferenceSession(self, *arguments: Any, **options: Any) -> None:  # noqa: N802
        raise RuntimeError(self._text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("BFCArena: Failed to allocate memory for requested buffer", "do not fit into the memory of Fake", "native"),
        ("Failed to get a WebGPU adapter: No supported adapters", "Fake found no GPU", "libvulkan1"),
        ("Program MatMulNBits requires f16 but the device does not support it", "computes in float16", "float32"),
        ("device lost", "Fake: onnxruntime 1.32.0 cannot load", "--engine native"),
    ],
)
def test_a_session_that_fails_on_an_accelerator_says_what_to_do(
    artifact: Path, text: str, message: str, hint: str
) -> None:
    with pytest.raises(AcceleratorError, match=message) as caught:
        open_session(Failing(text), artifact, PRETENDED, 1, None)
    assert hint in caught.value.hint


def test_a_session_that_falls_back_to_the_processor_is_an_error(artifact: Path) -> None:
    with pytest.raises(AcceleratorError, match="cannot start Fake on this machine and would run on CPU"):
        open_session(ort, artifact, PRETENDED, 1, None)


def test_errors_of_memory_and_of_float16_are_recognized() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert out_of_memory(RuntimeError("WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid"))
    assert not out_of_memory(RuntimeError("device lost"))
    assert not lacks_float16(RuntimeError("out of memory"))
    assert one_line(EngineError("a\n  b")) == "a b"
