"""Writes seeds for tests/native/*_fuzz.cpp: model.onnx of tiny artifacts, whole and without nodes, and text tables.

python tests/support/fuzz_corpus.py FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import onnx
from tiny_checkpoint import write_checkpoint

from edgekit.build.pipeline import build
from edgekit.build.text_file import FILE_NAME
from edgekit.scheme import QuantizationConfig, QuantizationScheme

DATA_BYTES = 1 << 20  # kDataBytes of the fuzz target


def write_corpus(folder: Path) -> list[Path]:
    """Write the seeds and return their paths."""
    for name in ("onnx", "text"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as work:
        for family, device, scheme, start in (
            (
                "llama",
                "cpu",
                QuantizationScheme(4, 32, False),
                "{{ strftime_now('%d %b %Y, %A %B %j %y %m %a %p %I %%') }}",
            ),
            ("qwen2", "jetson", QuantizationScheme(8, 64, True), ""),
            ("qwen3", "cpu", QuantizationScheme(4, 64, True), ""),
        ):
            checkpoint = write_checkpoint(Path(work) / family, family, num_hidden_layers=1, max_position_embeddings=64)
            template = checkpoint / "chat_template.jinja"
            template.write_text(start + template.read_text())
            artifact = build(
                None, device, checkpoint=checkpoint, out=Path(work) / f"{family}-out",
                quantization=QuantizationConfig(scheme, scheme, scheme), gate=False,
            ).artifact  # fmt: skip
            size = (artifact / "model.onnx.data").stat().st_size
            if size > DATA_BYTES:
                raise ValueError(f"{family}: model.onnx.data has {size} bytes; the fuzz target has {DATA_BYTES}")
            model = onnx.load_from_string((artifact / "model.onnx").read_bytes())
            for name in ("whole", "without-nodes"):
                path = folder / "onnx" / f"{family}-{name}.onnx"
                path.write_bytes(model.SerializeToString())
                written.append(path)
                del model.graph.node[:]
                del model.graph.value_info[:]
            path = folder / "text" / f"{family}.bin"
            path.write_bytes((artifact / FILE_NAME).read_bytes())
            written.append(path)
    return written


if __name__ == "__main__":
    for seed in write_corpus(Path(sys.argv[1])):
        print(seed, seed.stat().st_size)
