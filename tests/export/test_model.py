"""An export: graph and data file belong together, and an unsupported model leaves no files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from array_weights import ArrayWeights, tiny_weights

from edgekit.export.model import MODEL_FILE, export_model
from edgekit.export.onnx_graph import DATA_FILE
from edgekit.layout import DataLayout, Matrix, plan_layout
from edgekit.quantize.packing import PackedLinear
from edgekit.quantize.rtn import quantize_rows
from edgekit.scheme import QuantizationConfig, QuantizationScheme

FOUR = QuantizationScheme(4, 32, True)
CONFIG = QuantizationConfig(FOUR, FOUR, FOUR)


@pytest.mark.parametrize("config", [CONFIG, QuantizationConfig.none()], ids=["int4", "float"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_graph_refers_to_the_layouts_slots(tmp_path: Path, config: QuantizationConfig, dtype: str) -> None:
    tensors, spec = tiny_weights("qwen2")
    reports: list[tuple[float, float]] = []
    layout = export_model(
        tmp_path, spec, ArrayWeights(tensors), config, activation_type=dtype, max_context=32, threads=2,
        progress=lambda done, total: reports.append((done, total)),
    )  # fmt: skip
    assert layout == plan_layout(spec, config, dtype, 32)
    assert sorted(p.name for p in tmp_path.iterdir()) == [MODEL_FILE, DATA_FILE]
    assert (tmp_path / DATA_FILE).stat().st_size == layout.size_bytes
    slots = {s.name: s for m in layout.matrices() for s in m.slots} | {v.slot.name: v.slot for v in layout.vectors()}
    slots |= {s.name: s for s in (layout.rotary_cos, layout.rotary_sin)}
    found = {}
    for tensor in onnx.load(tmp_path / MODEL_FILE, load_external_data=False).graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {e.key: e.value for e in tensor.external_data}
            assert place["location"] == DATA_FILE
            found[tensor.name] = int(place["offset"]), int(place["length"])
    assert found == {name: (slot.offset, slot.size_bytes) for name, slot in slots.items()}
    assert reports[-1][0] == reports[-1][1]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors, spec = tiny_weights("llama")
    folders = [tmp_path / str(threads) for threads in (1, 3)]
    for folder, threads in zip(folders, (1, 3), strict=True):
        folder.mkdir()
        export_model(
            folder, spec, ArrayWeights(tensors), CONFIG, activation_type="float32", max_context=32, threads=threads
        )
    for name in (MODEL_FILE, DATA_FILE):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_a_layer_quantizer_chooses_the_codes_of_the_layers(tmp_path: Path) -> None:
    tensors, spec = tiny_weights("llama")
    layouts: list[DataLayout] = []

    def quantizer(layout: DataLayout) -> Iterator[tuple[Matrix, PackedLinear]]:
        layouts.append(layout)
        for matrix in layout.calibrated():
            weight = np.ones((matrix.out_features, matrix.in_features), np.float32)
            yield matrix, quantize_rows(weight, FOUR, "float32")

    layout = export_model(
        tmp_path, spec, ArrayWeights(tensors), CONFIG, activation_type="float32", max_context=32, threads=1,
        layers=quantizer,
    )  # fmt: skip
    assert layouts == [layout]
    model = onnx.load(tmp_path / MODEL_FILE)
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith(".scales")}
    for matrix in layout.inner_matrices():
        assert len(np.unique(scales[f"{matrix.name}.scales"])) == 1, "all blocks of a constant matrix are equal"
    assert len(np.unique(scales["model.embed_tokens.scales"])) > 100
