"""Graph and data of one model, written into a folder: the exporter's front door."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

from ..layout import DataLayout, Matrix, plan_layout
from ..models.spec import ModelSpec
from ..quantize.packing import PackedLinear
from ..scheme import QuantizationConfig
from ..weights.source import WeightSource
from .data_writer import write_data
from .decoder import build_decoder
from .onnx_graph import DATA_FILE

MODEL_FILE = "model.onnx"
# Gives each matrix of the layers with its codes.
LayerQuantizer = Callable[[DataLayout], Iterable[tuple[Matrix, PackedLinear]]]


def export_model(
    folder: Path,
    spec: ModelSpec,
    source: WeightSource,
    quantization: QuantizationConfig,
    *,
    activation_type: str,
    max_context: int,
    threads: int,
    layers: LayerQuantizer | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    half_scales: bool = False,
) -> DataLayout:
    """Write ``model.onnx`` and ``model.onnx.data``.

    Args:
        folder: An existing folder that has neither file.
        spec: The model.
        source: Its weights.
        quantization: Formats; ``QuantizationConfig.none()`` writes the float graph.
        activation_type: ``float32`` or ``float16``.
        max_context: Positions the artifact can hold.
        threads: Row chunks quantized at once.
        layers: Quantizes the layers' matrices; None: they are rounded to nearest.
        progress: Called with (weights done, weights in all).
        half_scales: As :func:`write_data` has it.

    Returns:
        Where everything lies.

    Raises:
        EdgekitError: What :func:`write_data` and :func:`build_decoder` raise.
    """
    layout = plan_layout(spec, quantization, activation_type, max_context)
    model = build_decoder(spec, layout, version("edgekit-llm"))  # refuses a model it has no graph for, before the work
    quantized = None if layers is None else layers(layout)
    write_data(folder / DATA_FILE, layout, spec, source, progress, threads, half_scales, quantized)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    return layout
